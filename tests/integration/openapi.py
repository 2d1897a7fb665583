"""Docker's OpenAPI description (tests/data) as something that answers can be held against."""

import os

import jsonschema
import yaml

from harness import REPO

PATH = os.path.join(REPO, "tests", "data", "docker-engine-api-v1.50.yaml")
# Go pointers that the engine answers with null, though the description does not say so.
NULLABLE = ("ExitCode", "MemorySwappiness", "OomKillDisable", "PidsLimit", "Init")
METHODS = ("get", "head", "post", "put", "delete")


class Api:
    def __init__(self):
        with open(PATH, encoding="utf-8") as f:
            self.document = yaml.load(f, Loader=yaml.CSafeLoader)

    def operations(self):
        """(METHOD, path, operation) of each."""
        for path, item in self.document["paths"].items():
            for method in METHODS:
                if method in item:
                    yield method.upper(), path, item[method]

    def resolve(self, schema):
        while "$ref" in schema:
            target = self.document
            for part in schema["$ref"].lstrip("#/").split("/"):
                target = target[part]
            schema = {**target, **{k: v for k, v in schema.items() if k != "$ref"}}
        return schema

    def to_json_schema(self, schema, depth=0):
        """Swagger 2's dialect as JSON schema: x-nullable, and Go's habit of null for empty lists and maps."""
        if schema.get("$ref", "").endswith("/PluginInterfaceType"):
            return {"type": "string"}       # "docker.volumedriver/1.0" on the wire
        schema = self.resolve(schema)
        if depth > 24:
            return {}
        out = {k: schema[k] for k in ("enum", "minimum", "maximum", "required") if k in schema}
        kind = schema.get("type")
        if "allOf" in schema:
            out["allOf"] = [self.to_json_schema(part, depth + 1) for part in schema["allOf"]]
        if "properties" in schema:
            out["properties"] = {name: self.to_json_schema({**part, "x-nullable": True} if name in NULLABLE else part, depth + 1)
                                 for name, part in schema["properties"].items()}
        if isinstance(schema.get("additionalProperties"), dict):
            out["additionalProperties"] = self.to_json_schema(schema["additionalProperties"], depth + 1)
        if "items" in schema:
            out["items"] = self.to_json_schema(schema["items"], depth + 1)
        if kind:
            nullable = schema.get("x-nullable") or kind in ("array", "object") or schema.get("x-omitempty") is False
            out["type"] = [kind, "null"] if nullable else kind
            if nullable and "enum" in out:
                out["enum"] = [*out["enum"], None]
        return out

    def schema_of(self, method, path, status=200):
        return self.document["paths"][path][method.lower()]["responses"][int(status)]["schema"]

    def check(self, method, path, value, status=200):
        jsonschema.validate(value, self.to_json_schema(self.schema_of(method, path, status)))

    def absent(self, schema, value, where=""):
        """Properties that the description has and the value has not, as dotted paths; of a list, what no element has."""
        schema = self.resolve(schema)
        if value is None:
            return
        for part in schema.get("allOf", []):
            yield from self.absent(part, value, where)
        if isinstance(value, list):
            if value and "items" in schema:
                of_each = [list(self.absent(schema["items"], element, where + "[]")) for element in value]
                yield from [name for name in of_each[0] if all(name in others for others in of_each)]
        elif isinstance(value, dict):
            for name, part in schema.get("properties", {}).items():
                if name in value:
                    yield from self.absent(part, value[name], f"{where}.{name}")
                else:
                    yield f"{where}.{name}"
