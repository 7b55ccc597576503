"""How hard an item is, by three methods that leave their verdicts side by side: formula, language model, pass rate.

`item.difficulty` is the tier of the method chosen last; meta.tiers holds what each method found.
"""
