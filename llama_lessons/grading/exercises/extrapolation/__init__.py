"""Exercises of lesson 04, in the order of its notebook."""
