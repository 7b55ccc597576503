"""Attempts at items, graded, and the tables made of them."""
