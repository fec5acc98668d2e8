"""Calls a text classifier with Triton's client, and prints what it receives as JSON.

    python triton_client.py URL MODEL...

URL is the server's, and each MODEL a name of the base model or of an adapter.
"""

import asyncio
import json
import sys

import numpy as np
import tritonclient.http
import tritonclient.http.aio
from tritonclient.utils import InferenceServerException

TEXTS = ["what a good film", "the music was bright and the story true", "bad"]
IDS = np.array([[2, 128, 6, 81, 76, 5, 51, 3], [2, 96, 54, 64, 52, 51, 113, 3]], dtype=np.int64)
TENSORS = {"input_ids": IDS, "attention_mask": np.ones_like(IDS), "token_type_ids": np.zeros_like(IDS)}


def input_of(name, array, binary, module=tritonclient.http):
    datatype = "BYTES" if array.dtype == np.object_ else "INT64"
    tensor = module.InferInput(name, array.shape, datatype)
    tensor.set_data_from_numpy(array, binary_data=binary)
    return tensor


def tensors(binary):
    return [input_of(name, array, binary) for name, array in TENSORS.items()]


def text(binary, texts=TEXTS):
    return [input_of("text", np.array([one.encode() for one in texts], dtype=np.object_), binary)]


def outputs(binary, *names):
    return [tritonclient.http.InferRequestedOutput(name, binary_data=binary) for name in names]


def plain(array):
    # BYTES are bytes if they came as binary data, else strings.
    if array.dtype == np.object_:
        return [one.decode() if isinstance(one, bytes) else one for one in array.flatten()]
    return array.tolist()


def arrays(result, *names):
    return {name: plain(result.as_numpy(name)) for name in names}


def error_of(call):
    try:
        call()
    except InferenceServerException as error:
        return {"status": error.status(), "message": error.message()}
    return None


def answers_of(client, model):
    found = {"ready": client.is_model_ready(model), "versioned": client.is_model_ready(model, "1")}
    found["metadata"] = client.get_model_metadata(model)
    for kind, binary in (("json", False), ("binary", True)):
        result = client.infer(model, tensors(binary), outputs=outputs(binary, "logits"), request_id="one")
        found[f"{kind} tensors"] = arrays(result, "logits")
        found[f"{kind} response"] = {k: result.get_response()[k] for k in ("model_name", "model_version", "id")}
        result = client.infer(model, text(binary), outputs=outputs(binary, "label", "score", "scores"))
        found[f"{kind} text"] = arrays(result, "label", "score", "scores")
    # Without outputs, the client asks for all of them as binary data.
    found["all outputs"] = arrays(client.infer(model, text(True)), "label", "score", "scores")
    for algorithm in ("gzip", "deflate"):
        result = client.infer(
            model,
            text(True),
            request_compression_algorithm=algorithm,
            response_compression_algorithm=algorithm,
        )
        found[algorithm] = arrays(result, "label", "score", "scores")
    best = client.infer(model, text(False), parameters={"top_k": 2}, timeout=60_000_000)
    found["top 2"] = arrays(best, "label", "score")
    # Several requests at a time, each of one text.
    running = [client.async_infer(model, text(True, [one])) for one in TEXTS * 4]
    found["concurrent"] = [arrays(one.get_result(), "score")["score"][0] for one in running]
    return found


async def answers_of_asyncio(url, models):
    async with tritonclient.http.aio.InferenceServerClient(url) as client:
        calls = [client.infer(model, text(True)) for model in models for _ in range(4)]
        results = await asyncio.gather(*calls)
        return [arrays(result, "score")["score"] for result in results]


def main(url, models):
    url = url.removeprefix("http://")
    client = tritonclient.http.InferenceServerClient(url, concurrency=8)
    model = models[0]
    wrong = [input_of("text", IDS, False)]
    strange = input_of("text", np.array([b"\xc3\x28"], dtype=np.object_), True)
    longer = [input_of(name, np.zeros((1, 100), dtype=np.int64), True) for name in TENSORS]
    report = {
        "live": client.is_server_live(),
        "ready": client.is_server_ready(),
        "server": client.get_server_metadata(),
        "index": client.get_model_repository_index(),
        "models": {name: answers_of(client, name) for name in models},
        "asyncio": asyncio.run(answers_of_asyncio(url, models)),
        "unknown ready": client.is_model_ready("nobody"),
        "errors": {
            "unknown model": error_of(lambda: client.infer("nobody", text(True))),
            "unknown version": error_of(lambda: client.get_model_metadata(model, "7")),
            "wrong datatype": error_of(lambda: client.infer(model, wrong)),
            "missing input": error_of(lambda: client.infer(model, tensors(True)[:1])),
            "unknown output": error_of(lambda: client.infer(model, text(True), outputs=outputs(True, "nothing"))),
            "unknown parameter": error_of(lambda: client.infer(model, text(True), parameters={"color": "red"})),
            "not UTF-8": error_of(lambda: client.infer(model, [strange])),
            "too long": error_of(lambda: client.infer(model, longer)),
        },
    }
    client.close()
    print(json.dumps(report))


main(sys.argv[1], sys.argv[2:])
