"""Exercises of lesson 01, in the order of its notebook."""
