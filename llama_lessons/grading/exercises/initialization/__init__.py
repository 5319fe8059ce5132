"""Exercises of lesson 06, in the order of its notebook."""
