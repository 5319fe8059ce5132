"""Tools for the authors of lessons. Learners need none of them."""
