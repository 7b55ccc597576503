"""From MediaWiki pages to the graph's files: `corl rods extract SRC --out DIR`."""
