"""Chains of thought by a teacher: asked for, checked, selected, refined."""
