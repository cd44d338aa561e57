"""The prose of a documentation page: its words, its sentences and the words to avoid.

``python -m tests.prose`` prints the figures of each page.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
# that of the papers has the texts of measured files, whose change needs a new run
PAPERS = ROOT / "docs" / "papers.md"
PAGES = [ROOT / "README.md", *sorted({*(ROOT / "docs").rglob("*.md")} - {PAPERS})]
# pattern to avoid: what to write
AVOID = {
    r"the print|as printed|leaves? the print": "the paper, or differ from the paper",
    r"(authors'|author's|that|the) program\b(?! runs)": "reference implementation",
    r"(samples?|rows?|images?|inputs?|points?|candidates?|queries|those),? who": "that",
    r"finds? (itself|themselves)": "is adapted",
    r"(lives?|lived) through": "is kept across",
    r"(hand|hands|handed|handing) in\b": "submit",
    r"anew": "again",
    r"(ask|asks|asked|asking) for": "needs",
    r"stands? beside": "comparable with",
    r"a given ball": "a fixed eps",
    r"peers?|foreign": "external attack",
    r"met|fooled|fallen|won|broken(?!:|, held)": "success",  # names of attributes may stay
    r"refuses?|refused|is refused": "raises ValueError",
    r"where we (leave|differ)": "Differences from the paper",
    r"likes? to|wishes|wants to": "subject, verb, object: a tensor is no person",
}


def avoided(text: str, patterns: dict[str, str] = AVOID) -> dict[str, str]:
    """Return the words of a text that are to be avoided, each with what to write."""
    return {
        found[0]: instead
        for pattern, instead in patterns.items()
        for found in re.finditer(rf"(?<![\w-])(?:{pattern})(?![\w-])", text, flags=re.IGNORECASE)
    }


def paragraphs(markdown: str) -> list[str]:
    """Return the paragraphs and list items of a page, without code, tables, headings and HTML."""
    text = re.sub(r"^( *)```.*?^\1```", "\n", markdown, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"<!--.*?-->|<[^>\n]*>", "", text, flags=re.DOTALL)
    found = [""]
    nested = False  # inside a list, where indented lines are prose and not code
    for line in text.split("\n"):
        item = re.match(r" *([*+-]|\d+\.|!!!|\?\?\?|===) +", line)
        nested = bool(item) or (nested and (not line.strip() or line.startswith(" ")))
        code = line.startswith("    ") and not nested
        if item or code or not line.strip() or line.lstrip().startswith(("#", "|")):
            found.append("")
        if not code and not line.lstrip().startswith(("#", "|")):
            found[-1] += " " + (line[item.end() :] if item else line.strip())
    plain = (re.sub(r"`[^`]*`", "code", one) for one in found)
    return [re.sub(r"!?\[([^]]*)\]\([^)]*\)", r"\1", one).strip() for one in plain if one.strip()]


def words(text: str) -> int:
    """Count the words, each with a letter or a digit."""
    return sum(any(map(str.isalnum, word)) for word in text.split())


def sentences(markdown: str) -> list[str]:
    """Return the sentences. An initial (``J. Chen``) ends none."""
    ends = re.compile(r"(?<=[.?!])(?<![\s(][A-Z]\.)[)\"*]* +(?=[A-Z\d(\"*]|code)")
    return [one for part in paragraphs(markdown) for one in ends.split(part) if words(one)]


def figures(page: Path) -> dict[str, float]:
    """Return words, semicolons per 1,000 words, and the lengths of sentences of a page."""
    text = page.read_text(encoding="utf-8")
    prose = " ".join(paragraphs(text))
    lengths = sorted(map(words, sentences(text))) or [0]
    return {
        "words": words(prose),
        "semicolons": 1000 * prose.count(";") / max(words(prose), 1),
        "p90": lengths[int(0.9 * (len(lengths) - 1))],
        "longest": lengths[-1],
    }


if __name__ == "__main__":
    for page in PAGES:
        rounded = {name: round(x, 1) for name, x in figures(page).items()}
        sys.stdout.write(f"{page.relative_to(ROOT)} {rounded}\n")
