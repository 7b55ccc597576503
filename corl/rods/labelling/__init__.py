"""Whether an item's label holds: a strong model answers it several times, a person decides what it never gets right."""
