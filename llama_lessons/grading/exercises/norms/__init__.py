"""Exercises of lesson 05, in the order of its notebook."""
