"""RODS, reasoning-oriented data: items made from a medical graph, with the reasoning that solves them."""
