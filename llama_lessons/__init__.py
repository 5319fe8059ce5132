"""Llama, one idea at a time: the reference modules, the grader and what the lessons share."""
