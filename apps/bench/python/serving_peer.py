"""Serves embeddings of BERT with PEFT's FourierFT adapters, on Python's own HTTP server: the peer of the benchmark `serving`. The weights are random,
because the cost depends only on the sizes. Each request names an adapter, which `set_adapter` makes the active one; a lock keeps requests from
changing it for each other. `base` is the model without adapters. With `--swap`, the adapters are saved in a folder, and each request loads its
adapter from there, as servers do whose adapters in use are more than fit in memory. Prints one line of JSON when the server listens, and ends with
its standard input.

    python serving_peer.py tokenizer.json --layers 12 --width 768 --heads 12 --vocabulary 30522 --n 1000 --adapters 32 [--swap FOLDER]

    {"url": "http://127.0.0.1:…", "versions": "…", "adapters": 32}
"""

import argparse
import base64
import contextlib
import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import peft
import tokenizers
import torch
import transformers


def create(options):
    torch.manual_seed(0)
    model = transformers.BertModel(transformers.BertConfig(
        vocab_size=options.vocabulary, hidden_size=options.width, num_hidden_layers=options.layers, num_attention_heads=options.heads,
        intermediate_size=4 * options.width), add_pooling_layer=False)
    config = peft.FourierFTConfig(n_frequency=options.n, target_modules=["query", "value"], init_weights=False, inference_mode=True)
    model = peft.get_peft_model(model, config, adapter_name="a0")
    for i in range(1, options.adapters):
        model.add_adapter(f"a{i}", config)
    return model.eval()


class Embedder:
    def __init__(self, options):
        self.model = create(options)
        self.tokenizer = tokenizers.Tokenizer.from_file(options.tokenizer)
        self.lock = threading.Lock()
        self.folder = options.swap
        if self.folder:
            self.model.save_pretrained(self.folder)
            for i in range(1, options.adapters):
                self.model.delete_adapter(f"a{i}")

    @contextlib.contextmanager
    def active(self, name):
        if name == "base":
            with self.model.disable_adapter():
                yield
        elif self.folder:
            self.model.load_adapter(os.path.join(self.folder, name), adapter_name="loaded")
            self.model.set_adapter("loaded", inference_mode=True)
            yield
            self.model.delete_adapter("loaded")
        else:
            self.model.set_adapter(name, inference_mode=True)
            yield

    @torch.inference_mode()
    def embed(self, name, text):
        ids = torch.tensor([self.tokenizer.encode(text).ids])
        with self.lock, self.active(name):
            tokens = self.model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state
        vector = torch.nn.functional.normalize(tokens.mean(dim=1), dim=-1)[0]
        return base64.b64encode(vector.numpy().tobytes()).decode()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # An answer is sent at once, as one packet.
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["content-length"])))
        embedding = self.server.embedder.embed(request["model"], request["input"])
        data = [{"object": "embedding", "index": 0, "embedding": embedding}]
        body = json.dumps({"object": "list", "data": data, "model": request["model"]}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


parser = argparse.ArgumentParser()
parser.add_argument("tokenizer")
for name in ("layers", "width", "heads", "vocabulary", "n", "adapters"):
    parser.add_argument(f"--{name}", type=int, required=True)
parser.add_argument("--swap")
options = parser.parse_args()

server = Server(("127.0.0.1", 0), Handler)
server.embedder = Embedder(options)
versions = f"PyTorch {torch.__version__}, PEFT {peft.__version__}, Transformers {transformers.__version__}, {torch.get_num_threads()} threads"
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
print(json.dumps({"url": f"http://127.0.0.1:{server.server_port}", "versions": versions, "adapters": options.adapters}), flush=True)
server.serve_forever()
