"""Exercises of lesson 02, in the order of its notebook."""
