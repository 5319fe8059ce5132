"""Exercises of lesson 07, in the order of its notebook."""
