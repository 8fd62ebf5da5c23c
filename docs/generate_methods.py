"""Write the tables of docs/methods.md: every method in a sentence, and the problems that it can solve.

`python -m docs.generate_methods` writes them into the page; with `--check` it only says whether they are up
to date. What stands there is what `Method.check` says, so nothing has to be kept in step by hand.
"""

from __future__ import annotations

import sys
from pathlib import Path

from catena.errors import SettingsError
from catena.methods import METHODS, get_method
from catena.problems import PROBLEMS, HeadSpec, get_problem
from catena.settings import MethodSettings, ProblemSettings

PAGE = Path(__file__).with_name("methods.md")
BEGIN = "<!-- written by `python -m docs.generate_methods` -->"
END = "<!-- to here -->"
#: Problems that ask for another head by a setting of theirs.
_VARIANTS = {"ranking, two towers": {"name": "ranking", "architecture": "two_towers"}}


def heads() -> dict[str, tuple[str, HeadSpec]]:
    """The problem's name and the head it asks a backbone for, by what the table calls it."""
    named = {name: ProblemSettings.model_validate({"name": name}) for name in PROBLEMS}
    for name, given in _VARIANTS.items():
        named[name] = ProblemSettings.model_validate(given)
    return {
        title: (settings.name, get_problem(settings).head(("one", "two")))
        for title, settings in named.items()
    }


def fits(method: str, problem: str, head: HeadSpec) -> bool:
    """Whether the method, as it is by default, takes the problem that needs `head`."""
    try:
        get_method(MethodSettings.model_validate({"name": method})).check(problem, head)
    except SettingsError:
        return False
    return True


def tables() -> str:
    """Both tables as Markdown."""
    lines = ["| `method.name` | what it does |", "|---|---|"]
    for name, method in METHODS.items():
        sentence = (method.__doc__ or "").strip().partition("\n\n")[0]
        lines.append(f"| `{name}` | {' '.join(sentence.split())} |")
    lines += [
        "",
        f"| problem | {' | '.join(f'`{name}`' for name in METHODS)} |",
        "|---" * (len(METHODS) + 1) + "|",
    ]
    for title, (problem, head) in heads().items():
        cells = ["yes" if fits(name, problem, head) else "–" for name in METHODS]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def with_tables(page: str) -> str:
    """The page with the tables of today between its marks."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE.name} has lost the marks between which its tables stand")
    return f"{before}{BEGIN}\n\n{tables()}\n\n{END}{after}"


def main(arguments: list[str]) -> int:
    """Write the tables, or with `--check` compare them; the exit status."""
    page = PAGE.read_text(encoding="utf-8")
    wanted = with_tables(page)
    if "--check" not in arguments:
        PAGE.write_text(wanted, encoding="utf-8")
        return 0
    if page == wanted:
        return 0
    print("docs/methods.md is out of date; run `python -m docs.generate_methods`.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
