"""The agent that collects pages for extraction, best first: `corl rods crawl --out DIR`."""
