"""Writes the schemas of the mock's resources for the DMTF's validator, from the facts in redfish_2026_1.tsv.

The validator reads CSDL. DMTF's own files are not in this repository and its site is not asked during tests; what
they say of names, types, allowed values, excerpts, addresses and methods is in the table.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from xml.sax.saxutils import quoteattr

FACTS = Path(__file__).with_name("redfish_2026_1.tsv")
_SIMPLE = {"string": "Edm.String", "number": "Edm.Decimal", "integer": "Edm.Int64", "boolean": "Edm.Boolean"}
_SIMPLE["date-time"] = "Edm.DateTimeOffset"
_REQUIRED = '<Annotation Term="Redfish.Required"/>'
_READ = '<Annotation Term="OData.Permissions" EnumMember="OData.Permission/Read"/>'
_WRITE = '<Annotation Term="OData.Permissions" EnumMember="OData.Permission/ReadWrite"/>'
_BASE = f"""
<EntityType Name="Item" Abstract="true"/>
<EntityType Name="Resource" BaseType="Resource.v1_0_0.Item" Abstract="true">
  <Property Name="Id" Type="Edm.String" Nullable="false">{_READ}{_REQUIRED}</Property>
  <Property Name="Name" Type="Edm.String" Nullable="false">{_READ}{_REQUIRED}</Property>
  <Property Name="Description" Type="Edm.String">{_READ}</Property>
</EntityType>
<EntityType Name="ResourceCollection" BaseType="Resource.v1_0_0.Item" Abstract="true">
  <Property Name="Name" Type="Edm.String" Nullable="false">{_READ}{_REQUIRED}</Property>
  <Property Name="Description" Type="Edm.String">{_READ}</Property>
</EntityType>
"""
_LINKS = f"""
<ComplexType Name="Links">
  <NavigationProperty Name="Sessions" Type="SessionCollection.SessionCollection" Nullable="false">{_REQUIRED}
  </NavigationProperty>
</ComplexType>
"""


def write_schemas(folder: Path) -> None:
    """One CSDL file for each resource."""
    facts: dict[str, list[list[str]]] = defaultdict(list)
    for line in FACTS.read_text().splitlines():
        if not line.startswith("#"):
            kind, *fields = line.split("\t")
            facts[kind].append(fields)
    (folder / "Resource_v1.xml").write_text(_file([("Resource.v1_0_0", _BASE)]))
    for kind, lines in facts.items():
        (folder / f"{kind}_v1.xml").write_text(_schema(kind, lines))


def _schema(kind: str, lines: list[list[str]]) -> str:
    values = {key: value for key, value, *_ in lines if key in ("version", "methods")}
    version, collection = values["version"], kind.endswith("Collection")
    base = "ResourceCollection" if collection else "Resource"
    about = _methods(values["methods"].split()) + _addresses([fields[1] for fields in lines if fields[0] == "uri"])
    root = f'<EntityType Name="{kind}" BaseType="Resource.v1_0_0.{base}"'
    if collection:
        member = kind.removesuffix("Collection")
        members = (
            f'<NavigationProperty Name="Members" Type="Collection({member}.{member})" Nullable="false">{_REQUIRED}'
        )
        return _file([(kind, f"{root}>{about}{members}</NavigationProperty></EntityType>")])
    space = f"{kind}.{version}"
    properties, enums = "", ""
    for _, name, *rest in (fields for fields in lines if fields[0] == "property"):
        more, enum = _property(kind, space, name, *rest)
        properties, enums = properties + more, enums + enum
    if kind == "ServiceRoot":
        properties += f'<Property Name="Links" Type="{space}.Links" Nullable="false">{_REQUIRED}</Property>'
        enums += _LINKS
    own = f'<EntityType Name="{kind}" BaseType="{kind}.{kind}">{properties}</EntityType>{enums}'
    return _file([(kind, f'{root} Abstract="true">{about}</EntityType>'), (space, own)])


def _property(kind: str, space: str, name: str, type_: str, flags: str = "", excerpts: str = "") -> tuple[str, str]:
    if type_.startswith("link "):
        target = type_.removeprefix("link ")
        copied = excerpts.removeprefix("excerpt ").removeprefix(target) if excerpts else None
        copy = f'<Annotation Term="Redfish.ExcerptCopy" String="{target + copied if copied else ""}"/>'
        inner = copy if copied is not None else ""
        return f'<NavigationProperty Name="{name}" Type="{target}.{target}">{inner}</NavigationProperty>', ""
    inner, enum = _WRITE if "writable" in flags else _READ, ""
    if "copyonly" in flags:
        inner += '<Annotation Term="Redfish.ExcerptCopyOnly"/>'
    if excerpts:
        inner += f'<Annotation Term="Redfish.Excerpt" String={quoteattr("" if excerpts == kind else excerpts)}/>'
    if type_.startswith("enum "):
        members = "".join(f'<Member Name="{value}"/>' for value in type_.removeprefix("enum ").split("|"))
        enum, type_ = f'<EnumType Name="{name}Values">{members}</EnumType>', f"{space}.{name}Values"
    else:
        type_ = _SIMPLE[type_]
    nullable = "true" if "nullable" in flags else "false"
    return f'<Property Name="{name}" Type="{type_}" Nullable="{nullable}">{inner}</Property>', enum


def _methods(methods: list[str]) -> str:
    about = ""
    terms = {"POST": ("Insert", "Insertable"), "PATCH": ("Update", "Updatable"), "DELETE": ("Delete", "Deletable")}
    for method, (term, verb) in terms.items():
        value = "true" if method in methods else "false"
        record = f'<Record><PropertyValue Property="{verb}" Bool="{value}"/></Record>'
        about += f'<Annotation Term="Capabilities.{term}Restrictions">{record}</Annotation>'
    return about


def _addresses(uris: list[str]) -> str:
    strings = "".join(f"<String>{uri}</String>" for uri in uris)
    return f'<Annotation Term="Redfish.Uris"><Collection>{strings}</Collection></Annotation>'


def _file(schemas: list[tuple[str, str]]) -> str:
    inner = "".join(
        f'<Schema xmlns="http://docs.oasis-open.org/odata/ns/edm" Namespace="{space}">{content}</Schema>'
        for space, content in schemas
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<edmx:Edmx xmlns:edmx="http://docs.oasis-open.org/odata/ns/edmx" Version="4.0">'
        f"<edmx:DataServices>{inner}</edmx:DataServices></edmx:Edmx>"
    )
