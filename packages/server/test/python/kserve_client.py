"""Calls a text classifier with KServe's client, and prints what it receives as JSON.

    python kserve_client.py URL MODEL...

URL is the server's, and each MODEL a name of the base model or of an adapter.
"""

import asyncio
import json
import sys

import httpx
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput

TEXTS = ["what a good film", "the music was bright and the story true", "bad"]
IDS = np.array([[2, 128, 6, 81, 76, 5, 51, 3], [2, 96, 54, 64, 52, 51, 113, 3]], dtype=np.int64)
TENSORS = {"input_ids": IDS, "attention_mask": np.ones_like(IDS), "token_type_ids": np.zeros_like(IDS)}


def input_of(name, array, binary):
    datatype = "BYTES" if array.dtype == np.object_ else "INT64"
    tensor = InferInput(name, list(array.shape), datatype)
    tensor.set_data_from_numpy(array, binary_data=binary)
    return tensor


def request(model, arrays, binary, names, parameters=None):
    outputs = [RequestedOutput(name, parameters={"binary_data": binary}) for name in names]
    inputs = [input_of(name, array, binary) for name, array in arrays.items()]
    return InferRequest(model, inputs, request_id="one", request_outputs=outputs, parameters=parameters)


def text(texts=TEXTS):
    return {"text": np.array([one.encode() for one in texts], dtype=np.object_)}


def plain(output):
    array = output.as_numpy()
    if array.dtype == np.object_:
        return [one.decode() if isinstance(one, bytes) else one for one in array.flatten()]
    return array.tolist()


def arrays(response):
    return {output.name: plain(output) for output in response.outputs}


async def error_of(call):
    try:
        await call
    except httpx.HTTPStatusError as error:
        return {"status": error.response.status_code, "message": str(error)}
    return None


async def answers_of(client, url, model):
    found = {"ready": await client.is_model_ready(url, model)}
    for kind, binary in (("json", False), ("binary", True)):
        response = await client.infer(url, request(model, TENSORS, binary, ["logits"]), model)
        found[f"{kind} tensors"] = arrays(response)
        found[f"{kind} response"] = {"id": response.id, "model_name": response.model_name}
        response = await client.infer(url, request(model, text(), binary, ["label", "score", "scores"]), model)
        found[f"{kind} text"] = arrays(response)
    # Without outputs, the request says how all of them come.
    asked = request(model, text(), True, [], {"binary_data_output": True})
    found["all outputs"] = arrays(await client.infer(url, asked, model))
    singles = [request(model, text([one]), True, ["score"]) for one in TEXTS * 4]
    responses = await asyncio.gather(*(client.infer(url, single, model) for single in singles))
    found["concurrent"] = [arrays(response)["score"][0] for response in responses]
    return found


async def main(url, models):
    config = RESTConfig(protocol="v2", retries=0, timeout=120)
    model = models[0]
    async with InferenceRESTClient(config) as client:
        wrong = request(model, {"text": IDS}, False, [])
        report = {
            "live": await client.is_server_live(url),
            "ready": await client.is_server_ready(url),
            "models": {name: await answers_of(client, url, name) for name in models},
            "unknown ready": await client.is_model_ready(url, "nobody"),
            "errors": {
                "unknown model": await error_of(client.infer(url, request("nobody", text(), True, []), "nobody")),
                "wrong datatype": await error_of(client.infer(url, wrong, model)),
                "unknown output": await error_of(client.infer(url, request(model, text(), True, ["nothing"]), model)),
            },
        }
    print(json.dumps(report))


asyncio.run(main(sys.argv[1], sys.argv[2:]))
