# SPDX-License-Identifier: Apache-2.0
"""The files that tidy looks at, and what a C file looks like without its comments."""
import functools
import pathlib
import re
import subprocess

TOKEN = re.compile(r"""
    (?P<comment>/\*.*?\*/|//(?:\\\n|[^\n])*)
  | (?P<string>"(?:\\.|[^"\\\n])*")
  | (?P<char>'(?:\\.|[^'\\\n])*')
""", re.X | re.S)


class File:
    """One file of the tree: `path` (relative, text), `text`, `lines`."""

    def __init__(self, root, path):
        self.root = pathlib.Path(root)
        self.path = path

    @functools.cached_property
    def text(self):
        return (self.root / self.path).read_text(encoding="utf-8", errors="replace")

    @functools.cached_property
    def lines(self):
        return self.text.splitlines()

    @property
    def parts(self):
        return self.path.split("/")

    @property
    def suffix(self):
        return pathlib.PurePosixPath(self.path).suffix

    @functools.cached_property
    def kind(self):
        """c, h, py, sh, md, sql, yaml, … : by suffix, or by the first line for programs."""
        if self.suffix:
            return self.suffix[1:]
        first = self.lines[0] if self.lines else ""
        if first.startswith("#!"):
            if "python" in first:
                return "py"
            return "sh" if re.search(r"\b(ba|da)?sh\b", first) else ""
        return ""

    @functools.cached_property
    def code(self):
        """C with comments and the insides of strings blanked, line numbers kept."""
        def blank(match):
            text = match.group(0)
            if match.lastgroup == "comment":
                return re.sub(r"[^\n]", " ", text)
            return text[0] + re.sub(r"[^\n]", " ", text[1:-1]) + text[-1]
        return TOKEN.sub(blank, self.text)

    @functools.cached_property
    def includes(self):
        """(line, "<" or '"', path) of each #include."""
        found = []
        for number, line in enumerate(self.lines, 1):
            match = re.match(r'\s*#\s*include\s*([<"])([^>"]+)[>"]', line)
            if match:
                found.append((number, match.group(1), match.group(2)))
        return found


class Tree:
    """Tree(root): every file that git knows or would add."""

    def __init__(self, root, build=None):
        self.root = pathlib.Path(root)
        self.build = pathlib.Path(build) if build else None

    @functools.cached_property
    def files(self):
        out = subprocess.run(
            ["git", "-C", self.root, "-c", "safe.directory=*", "ls-files", "-z", "-co",
             "--exclude-standard"], check=True, capture_output=True).stdout.decode()
        paths = sorted(p for p in out.split("\0") if p)
        return [File(self.root, p) for p in paths
                if (self.root / p).is_file() and not (self.root / p).is_symlink()
                and not self._data(p)]

    @staticmethod
    def _data(path):
        """Inputs of tests are whatever they have to be."""
        return any(part in ("corpus", "vectors", "data", "golden") for part in path.split("/")[:-1])

    def of(self, *kinds):
        return [f for f in self.files if f.kind in kinds]

    def c(self):
        return self.of("c", "h")
