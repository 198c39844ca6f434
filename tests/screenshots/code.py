"""The files that the swarm of the screenshots writes: a little program with a fault in it, and agents' configs."""

FIRST = '''"""Spans of high water: when a warning begins, and when it ends."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Span:
    begins: int
    ends: int
    highest_cm: int


def find_spans(levels_cm: list[int], threshold_cm: int) -> list[Span]:
    """The spans in which the water stands above the threshold, by the places in the list."""
    spans, begins = [], None
    for place, level in enumerate(levels_cm):
        if level > threshold_cm and begins is None:
            begins = place
        if level <= threshold_cm and begins is not None:
            spans.append(Span(begins, place + 1, max(levels_cm[begins:place])))
            begins = None
    return spans
'''

CASES = """import unittest

from tide import Span, find_spans


class FindSpans(unittest.TestCase):
    def test_low_water_is_no_span(self):
        self.assertEqual(find_spans([310, 295, 280], 420), [])

    def test_a_high_water_is_one_span(self):
        self.assertEqual(find_spans([400, 431, 437, 415], 420), [Span(1, 3, 437)])

    def test_two_high_waters_are_two(self):
        self.assertEqual(len(find_spans([431, 300, 432, 300], 420)), 2)
"""

# The first fault with its mending, and what the reviewer found.
FAULTY = (
    "            spans.append(Span(begins, place + 1, max(levels_cm[begins:place])))\n",
    "            spans.append(Span(begins, place, max(levels_cm[begins:place])))\n",
    """        if level > threshold_cm and begins is None:
            begins = place
        if level <= threshold_cm and begins is not None:
""",
    """        if level >= threshold_cm and begins is None:
            begins = place
        if level < threshold_cm and begins is not None:
""",
)

HANDBOOK = """# handbook

## what a warning means

the water will stand above the threshold within a day.

## who is called

(an open question)
"""

BUILDER_TOML = """model = "claude-opus-5-5"
packages = ["bash", "git"]

[bash]
deny = ["git push *"]

[budget]
usd_per_day = 20
"""

REVIEWER_TOML = """model = "claude-opus-5-5"
packages = ["bash", "git"]

[bash]
ask = ["git push *"]
"""
REVIEWER_WORDS = "Read every change before it leaves the machine. Be brief, and name the line.\n"

SCOUT_FIRST_TOML = """model = "claude-sonnet-5-5"
allowed_recipients = ["manager", "operator"]

[budget]
tokens_per_day = 250000
"""
SCOUT_TOML = """model = "claude-sonnet-5-5"
allowed_recipients = ["manager", "operator", "builder"]

[bash]
allow = ["curl *", "python3 *", "jq *"]

[network]
allow = ["api.tides.example"]

[budget]
tokens_per_day = 900000

[[schedule]]
cron = "15 5 * * *"
message = "fetch the levels of the last day"
"""
SCOUT_WORDS = "Look things up, and say where you found them.\n"

SCRIBE_TOML = """model = "claude-sonnet-5-5"
allowed_tools = ["Read", "Write", "Edit"]
"""
