#!/usr/bin/env python
"""Write docs/reference.md anew from what the code says of itself; with --check, only say whether that is needed.

Sources: the argument specs and defaults of the roles, the DOCUMENTATION and RETURN of the modules, and the comment or first
play at the head of each playbook, and the kinds of findings in plugin_utils/plan/health.py.
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/reference.md"
HEADER = """\
# Reference

<!-- Written by docs/reference.py. Do not edit: change the sources and run `make docs`. -->

Every playbook, every kind of finding, every variable of the roles, and every module of the collection `airfield.metal`.
`ansible-doc` shows the same at the command line, for example `ansible-doc -t role airfield.metal.airflow`.
"""
MARKUP = re.compile(r"\b(RV|[BCEIMOPUV])\(((?:[^()]|\([^()]*\))*)\)")
# Longer defaults stand below their table, where they keep their line breaks.
CELL = 40


@dataclass(frozen=True)
class Row:
    """One option, suboption or return value."""

    name: str
    body: Mapping[str, Any]


class Anchors:
    """Where in the page options and modules are described."""

    def __init__(self) -> None:
        self.targets: dict[str, str] = {}

    def add(self, key: str, anchor: str) -> None:
        self.targets[key] = anchor

    def link(self, key: str, text: str) -> str:
        return f"[{text}](#{self.targets[key]})" if key in self.targets else text


def code(text: str) -> str:
    return f"`{text}`"


def plain(text: str) -> str:
    """Text outside of code, with nothing that Markdown would take for markup."""
    return text.replace("<", "&lt;").replace("*", r"\*")


def prose(text: str, anchors: Anchors, scope: str = "") -> str:
    """Ansible's markup as Markdown; `scope` is the prefix of the options that O(name) means, "" for variables of roles."""

    def replace(match: re.Match[str]) -> str:
        kind, content = match.group(1), match.group(2)
        if kind == "O":
            return anchors.link(scope + content.partition("=")[0], code(content))
        if kind == "M":
            return anchors.link(f"module {content}", code(content))
        if kind == "U":
            return f"<{content}>"
        return {"B": f"**{content}**", "I": f"*{content}*"}.get(kind, code(content))

    parts, position = [], 0
    for match in MARKUP.finditer(text):
        parts += [plain(text[position : match.start()]), replace(match)]
        position = match.end()
    return "".join([*parts, plain(text[position:])])


def paragraphs(description: str | list[str] | None) -> list[str]:
    """A description, of which Ansible allows one text or a list of them."""
    return [description] if isinstance(description, str) else list(description or [])


def cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|")


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    head = list(head)
    lines = [head, ["---"] * len(head), *([cell(text) for text in row] for row in rows)]
    return ["| " + " | ".join(line) + " |" for line in lines] + [""]


def flow(value: Any) -> str:
    """A value on one line, as one would write it in an inventory."""
    text: str = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), sort_keys=False)
    text = text.removesuffix("\n").removesuffix("\n...")
    return json.dumps(value) if text.startswith("'") else text


def flatten(options: Mapping[str, Mapping[str, Any]], below: tuple[str, ...], prefix: str = "") -> Iterator[Row]:
    """Options and, after each, what is inside of it, as name.sub."""
    for name, body in options.items():
        yield Row(prefix + name, body)
        for key in below:
            yield from flatten(body.get(key) or {}, below, f"{prefix}{name}.")


def kind_of(body: Mapping[str, Any]) -> str:
    kind = str(body.get("type", "str"))
    return f"{kind} of {body['elements']}" if "elements" in body else kind


def meaning(body: Mapping[str, Any], anchors: Anchors, scope: str) -> str:
    text = " ".join(prose(part, anchors, scope) for part in paragraphs(body.get("description")))
    if "choices" in body:
        text += " One of " + ", ".join(code(flow(choice)) for choice in body["choices"]) + "."
    return text


def read_defaults(path: Path) -> dict[str, tuple[str, Any]]:
    """Each variable of a role's defaults, as it is written there and as YAML reads it."""
    if not path.exists():
        return {}
    text = path.read_text(encoding="utf-8")
    node = yaml.compose(text)
    values = yaml.safe_load(text)
    lines = text.splitlines()
    found = {}
    for key, value in node.value if isinstance(node, yaml.MappingNode) else []:
        # A block ends where the next key begins: what lies between them is not its own.
        end = value.end_mark.line + 1 if value.end_mark.column else value.end_mark.line
        block = [line for line in lines[key.start_mark.line : end] if line and not line.startswith("#")]
        found[str(key.value)] = ("\n".join(block), values[key.value])
    return found


class RoleTable:
    """The variables of a role's entry point, and the defaults that are too long for its table."""

    def __init__(self, role: Path, options: Mapping[str, Mapping[str, Any]], anchors: Anchors) -> None:
        self.anchors = anchors
        self.defaults = read_defaults(role / "defaults/main.yml")
        self.rows = list(flatten(options, ("options",)))
        self.below: list[str] = []
        for name, body in options.items():
            if "default" in body and name in self.defaults and body["default"] != self.defaults[name][1]:
                sys.exit(f"docs/reference.py: roles/{role.name}: argument_specs.yml and defaults/main.yml differ on {name}")

    def default(self, row: Row) -> str:
        if row.body.get("required"):
            return "required"
        if "default" in row.body:
            return code(flow(row.body["default"]))
        if row.name not in self.defaults:
            return "none"
        literal, value = self.defaults[row.name]
        if isinstance(value, str) and len(value) <= CELL:
            return code(value)
        self.below.append(literal)
        return "below"

    def lines(self) -> list[str]:
        lines = table(
            ["Variable", "Type", "Default", "Meaning"],
            (
                [
                    f'<a id="{row.name}"></a>{code(row.name)}',
                    kind_of(row.body),
                    self.default(row),
                    meaning(row.body, self.anchors, ""),
                ]
                for row in self.rows
            ),
        )
        if self.below:
            lines += ["Longer defaults, as they are written:", "", "```yaml", *self.below, "```", ""]
        return lines


def read_roles() -> dict[Path, dict[str, Any]]:
    """The argument specs of each role."""
    return {
        path.parents[1]: yaml.safe_load(path.read_text(encoding="utf-8"))["argument_specs"]
        for path in sorted(ROOT.glob("roles/*/meta/argument_specs.yml"))
    }


def read_constants(path: Path) -> dict[str, dict[str, Any]]:
    """DOCUMENTATION and RETURN of a plugin, wherever in the file they are."""
    found: dict[str, dict[str, Any]] = {"DOCUMENTATION": {}, "RETURN": {}}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            for target in node.targets:
                if isinstance(target, ast.Name) and target.id in found:
                    found[target.id] = yaml.safe_load(str(node.value.value)) or {}
    return found


def read_modules() -> dict[str, dict[str, dict[str, Any]]]:
    """DOCUMENTATION, with the options from its fragments, and RETURN of each module."""
    modules = {}
    for path in sorted(ROOT.glob("plugins/modules/[!_]*.py")):
        found = read_constants(path)
        documentation = found["DOCUMENTATION"]
        options = documentation.get("options") or {}
        for name in documentation.get("extends_documentation_fragment", []):
            fragment = read_constants(ROOT / f"plugins/doc_fragments/{name.rpartition('.')[2]}.py")
            # As Ansible does it: what the module says of an option counts.
            options |= {key: body for key, body in fragment["DOCUMENTATION"]["options"].items() if key not in options}
        modules[path.stem] = found | {"DOCUMENTATION": documentation | {"options": options}}
    return modules


def role_lines(role: Path, specs: Mapping[str, Any], anchors: Anchors) -> Iterator[str]:
    for entry_point, spec in specs.items():
        yield f"### Role {role.name}" if entry_point == "main" else f"#### {role.name}, tasks {entry_point}"
        yield ""
        yield f"**{prose(spec['short_description'], anchors)}.**"
        yield ""
        for paragraph in paragraphs(spec.get("description")):
            yield prose(paragraph, anchors)
            yield ""
        if spec.get("options"):
            yield from RoleTable(role, spec["options"], anchors).lines()


def module_scope(name: str) -> str:
    """The prefix under which a module's options are known to Anchors; variables of roles have none."""
    return f"module {name}."


def module_lines(name: str, module: Mapping[str, Any], anchors: Anchors) -> Iterator[str]:
    documentation, scope = module["DOCUMENTATION"], module_scope(name)
    yield f"### Module {name}"
    yield ""
    yield f"**{prose(documentation['short_description'], anchors, scope)}.**"
    yield ""
    for paragraph in paragraphs(documentation.get("description")):
        yield prose(paragraph, anchors, scope)
        yield ""
    for attribute, body in sorted((documentation.get("attributes") or {}).items()):
        yield f"- {attribute}: {body['support']}. {meaning(body, anchors, scope)}"
    yield ""
    yield from table(
        ["Option", "Type", "Default", "Meaning"],
        (
            [
                f'<a id="{anchors.targets[scope + row.name]}"></a>{code(row.name)}',
                kind_of(row.body),
                "required"
                if row.body.get("required")
                else code(flow(row.body["default"]))
                if "default" in row.body
                else "none",
                meaning(row.body, anchors, scope),
            ]
            for row in flatten(documentation["options"], ("suboptions",))
        ),
    )
    if module["RETURN"]:
        yield from table(
            ["Returned value", "Type", "When", "Meaning"],
            (
                [
                    code(row.name),
                    kind_of(row.body),
                    prose(str(row.body.get("returned", "")), anchors, scope),
                    meaning(row.body, anchors, scope)
                    + (f" For example {code(flow(row.body['sample']))}." if "sample" in row.body else ""),
                ]
                for row in flatten(module["RETURN"], ("contains",))
            ),
        )


def playbook_purpose(path: Path) -> str:
    """The comment at a playbook's head, or the name of its first play."""
    text = path.read_text(encoding="utf-8")
    comment = re.match(r"(?:---\n)?((?:#.*\n)+)", text)
    if comment:
        return plain(" ".join(line.lstrip("# ") for line in comment.group(1).splitlines()))
    return plain(f"{yaml.safe_load(text)[0]['name']}.")


def finding_lines() -> list[str]:
    """The kinds of findings of status.yml, whose rules need nothing but Python's own library."""
    path = ROOT / "plugins/plugin_utils/plan/health.py"
    spec = importlib.util.spec_from_file_location("airfield_health", path)
    if spec is None or spec.loader is None:
        raise ImportError(path)
    rules = importlib.util.module_from_spec(spec)
    # Dataclasses look for their module.
    sys.modules[spec.name] = rules
    spec.loader.exec_module(rules)
    rows = (
        [code(name), kind.severity, kind.title, kind.limit, "note" if kind.passes else ""] for name, kind in rules.KINDS.items()
    )
    return [
        "## Findings",
        "",
        "What `playbooks/status.yml` tells, by the `kind` that it has in JSON. *During a run or a start*: what is a note then.",
        "",
        *table(["Kind", "Severity", "What it means", "From", "During a run or a start"], rows),
    ]


def render() -> str:
    """The whole page."""
    roles, modules, anchors = read_roles(), read_modules(), Anchors()
    for specs in roles.values():
        for spec in specs.values():
            for row in flatten(spec.get("options") or {}, ("options",)):
                anchors.add(row.name, row.name)
    for name, module in modules.items():
        anchors.add(f"module airfield.metal.{name}", f"module-{name}")
        for row in flatten(module["DOCUMENTATION"]["options"], ("suboptions",)):
            anchors.add(module_scope(name) + row.name, f"module-{name}.{row.name}")

    lines = [HEADER]
    lines += [f"- [Role {role.name}](#role-{role.name}): {specs['main']['short_description']}" for role, specs in roles.items()]
    lines += [
        f"- [Module {name}](#module-{name}): {module['DOCUMENTATION']['short_description']}" for name, module in modules.items()
    ]
    lines += ["", "## Playbooks", ""]
    lines += ["Run each from the clone, or by its name in the installed collection:", ""]
    lines += table(
        ["Playbook", "In the collection", "What it does"],
        (
            [code(f"playbooks/{path.name}"), code(f"airfield.metal.{path.stem}"), playbook_purpose(path)]
            for path in sorted(ROOT.glob("playbooks/*.yml"))
        ),
    )
    lines += finding_lines()
    lines += ["## Roles", ""]
    lines += ["A role is named after the inventory group whose hosts it is for. Names with a dot are keys of a mapping.", ""]
    for role, specs in roles.items():
        lines += role_lines(role, specs, anchors)
    lines += ["## Modules", ""]
    for name, module in modules.items():
        lines += module_lines(name, module, anchors)
    return "\n".join(lines).rstrip("\n") + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail where the page is not up to date")
    arguments = parser.parse_args()
    page = render()
    if not arguments.check:
        PAGE.write_text(page, encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != page:
        sys.exit("docs/reference.md is not up to date: run `make docs` and commit what it changes.")


if __name__ == "__main__":
    main()
