"""Checks Kubernetes manifests against the models of the clients of KServe and Kubernetes, and prints their kinds and names as JSON.

    python check_manifests.py FILE...

Unknown fields, missing required ones and values of other types are errors.
"""

import json
import re
import sys

import kserve.models
import kubernetes.client
import yaml

KINDS = {
    "serving.kserve.io/v1beta1 InferenceService": "V1beta1InferenceService",
    "serving.kserve.io/v1alpha1 ServingRuntime": "V1alpha1ServingRuntime",
    "serving.kserve.io/v1alpha1 ClusterServingRuntime": "V1alpha1ClusterServingRuntime",
    "apps/v1 Deployment": "V1Deployment",
    "autoscaling/v2 HorizontalPodAutoscaler": "V2HorizontalPodAutoscaler",
    "v1 Service": "V1Service",
    "v1 PersistentVolumeClaim": "V1PersistentVolumeClaim",
}
# Types that the clients leave to the server: numbers with units, and numbers or names of ports.
LOOSE = {"ResourceQuantity": (str, int, float), "object": object, "IntOrString": (str, int)}
PRIMITIVE = {"str": str, "int": int, "bool": bool, "float": (int, float)}


def check(value, kind, path):
    if match := re.fullmatch(r"[Ll]ist\[(.*)\]", kind):
        expect(value, list, path)
        return [check(one, match[1], f"{path}[{i}]") for i, one in enumerate(value)]
    if match := re.fullmatch(r"[Dd]ict[(\[]str, (.*)[)\]]", kind):
        expect(value, dict, path)
        return {name: check(one, match[1], f"{path}.{name}") for name, one in value.items()}
    if kind in LOOSE or kind in PRIMITIVE:
        expect(value, LOOSE.get(kind) or PRIMITIVE[kind], path)
        return value
    expect(value, dict, path)
    model = getattr(kserve.models, kind, None) or getattr(kubernetes.client, kind)
    fields = {name: field for field, name in model.attribute_map.items()}
    if unknown := value.keys() - fields.keys():
        raise ValueError(f"{path}: unknown fields {sorted(unknown)}")
    arguments = {fields[name]: check(one, model.openapi_types[fields[name]], f"{path}.{name}") for name, one in value.items()}
    # The constructors check required fields, patterns and ranges.
    return model(**arguments)


def expect(value, types, path):
    if not isinstance(value, types) or (isinstance(value, bool) and types is int):
        raise ValueError(f"{path}: expected {types}, received {type(value)}")


found = []
for file in sys.argv[1:]:
    with open(file, encoding="utf-8") as stream:
        for document in yaml.safe_load_all(stream):
            kind = f"{document['apiVersion']} {document['kind']}"
            check(document, KINDS[kind], kind)
            found.append({"kind": document["kind"], "name": document["metadata"]["name"]})
print(json.dumps(found))
