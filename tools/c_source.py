"""What the checks share: the project's files, and C source with comments and strings blanked.

SPDX-License-Identifier: Apache-2.0
"""
import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parent.parent
GENERATED = re.compile(r"_(table|tables|data)\.[ch]$")
_TOKEN = re.compile(r"""//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'""", re.S)


def project_files(*suffixes):
    """Files that git tracks or would track (all, where there is no git), from ROOT."""
    listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                            cwd=ROOT, capture_output=True, check=False)
    if listed.returncode == 0:
        names = sorted(set(listed.stdout.decode().split("\0")) - {""})
    else:
        names = sorted(str(p.relative_to(ROOT)) for p in ROOT.rglob("*")
                       if p.is_file() and p.relative_to(ROOT).parts[0] not in (".git", "build"))
    return [n for n in names if n.endswith(suffixes) and (ROOT / n).is_file()]


def read(name):
    """The text of a project file."""
    return (ROOT / name).read_text(encoding="utf-8", errors="replace")


def _blank(match):
    text = match.group(0)
    if text[0] in "\"'":
        return text[0] + " " * (len(text) - 2) + text[-1]
    return re.sub(r"[^\n]", " ", text)


def strip(text):
    """Same length and lines, with comments and the insides of literals turned into blanks."""
    return _TOKEN.sub(_blank, text)


def strip_preprocessor(text):
    """Blanks directives too (continued lines included). Takes what strip gave."""
    return re.sub(r"^[ \t]*#(?:[^\n\\]|\\\n|\\.)*", lambda m: re.sub(r"[^\n]", " ", m.group(0)),
                  text, flags=re.M)


def functions(text):
    """Yields (name, first line, last line, body) of each function of a C file."""
    code = strip_preprocessor(strip(text))
    code = re.sub(r'extern\s*"[^"]*"\s*\{', lambda m: re.sub(r"[^\n]", " ", m.group(0)), code)
    depth, start, begin, name = 0, 0, None, None
    for place, char in enumerate(code):
        if char == "{":
            if depth == 0:
                head = code[start:place]
                found = re.search(r"(\w+)\s*\((?:[^;{}]*)\)[\s\w]*$", head)
                if found and "=" not in head:
                    name, begin = found.group(1), place
                    start += len(head) - len(head.lstrip())
            depth += 1
        elif char == "}":
            depth = max(depth - 1, 0)
            if depth == 0 and begin is not None:
                yield (name, code.count("\n", 0, start) + 1, code.count("\n", 0, place) + 1,
                       code[begin:place])
                begin = None
            if depth == 0:
                start = place + 1
        elif char == ";" and depth == 0:
            start = place + 1
