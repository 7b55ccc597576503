"""Lines of code per file of corl/ and kernels/, without blank lines, comments and docstrings: a mirror, not a fence."""

import ast
import io
import tokenize
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SKIPPED = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)


def code_lines(source: str) -> int:
    """Lines that hold a token of code."""
    docstrings: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        body = getattr(node, "body", None)
        first = body[0] if isinstance(body, list) and body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
            docstrings |= set(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in SKIPPED:
            lines |= set(range(token.start[0], token.end[0] + 1))
    return len(lines - docstrings)


def main() -> None:
    counts = {path: code_lines(path.read_text()) for top in ("corl", "kernels") for path in (ROOT / top).rglob("*.py")}
    for path, count in sorted(counts.items(), key=lambda entry: -entry[1]):
        print(f"{count:6} {path.relative_to(ROOT)}")
    print(f"{sum(counts.values()):6} in {len(counts)} files")


if __name__ == "__main__":
    main()
