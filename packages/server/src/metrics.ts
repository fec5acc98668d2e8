/** The metrics of one server, in the words of Prometheus. No label depends on what strangers send: adapters never appear in labels. */
import { Counter, Gauge, Histogram, Registry } from 'prom-client'

/** Seconds, from a hot classification to a long generation. */
const SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60]
const ROWS = [1, 2, 4, 8, 16, 32, 64, 128]

/** The HTTP API and the engine count here. Each server has its own registry. */
export class Metrics {
  readonly register = new Registry()
  readonly #registers = [this.register]

  /** Requests by `api` (its name, not the path) and HTTP `status`; 499: the client has gone. */
  readonly requests = new Counter({
    name: 'fourierft_requests_total',
    help: 'Requests that have been answered',
    labelNames: ['api', 'status'] as const,
    registers: this.#registers,
  })
  /** From the first byte of a request to the last byte of its answer, streams included. */
  readonly seconds = new Histogram({
    name: 'fourierft_request_seconds',
    help: 'Seconds from the start of a request to the end of its answer',
    labelNames: ['api'] as const,
    buckets: SECONDS,
    registers: this.#registers,
  })
  readonly requestsInFlight = new Gauge({
    name: 'fourierft_requests_in_flight',
    help: 'Requests that are being answered',
    registers: this.#registers,
  })

  /** One observation for each batch: its rows. Its count is the number of batches. */
  readonly batchRows = new Histogram({
    name: 'fourierft_batch_rows',
    help: 'Rows of a batch',
    buckets: ROWS,
    registers: this.#registers,
  })
  readonly batchSeconds = new Histogram({
    name: 'fourierft_batch_seconds',
    help: 'Seconds that the model runs for a batch',
    buckets: SECONDS,
    registers: this.#registers,
  })
  /** The padded share is `fourierft_padding_tokens_total / fourierft_tokens_total`. */
  readonly tokens = new Counter({
    name: 'fourierft_tokens_total',
    help: 'Positions in batches, padding included',
    registers: this.#registers,
  })
  readonly paddingTokens = new Counter({
    name: 'fourierft_padding_tokens_total',
    help: 'Positions in batches that are padding',
    registers: this.#registers,
  })
  readonly queueLength = new Gauge({
    name: 'fourierft_queue_length',
    help: 'Runs of the model that wait',
    registers: this.#registers,
  })

  /** `result`: `hit` (resident), `miss` (had to be loaded). */
  readonly adapterLookups = new Counter({
    name: 'fourierft_adapter_lookups_total',
    help: 'Lookups of adapters in the cache',
    labelNames: ['result'] as const,
    registers: this.#registers,
  })
  /** `result`: `loaded`, `failed`. */
  readonly adapterLoads = new Counter({
    name: 'fourierft_adapter_loads_total',
    help: 'Adapters that were read from their source',
    labelNames: ['result'] as const,
    registers: this.#registers,
  })
  readonly adapterLoadSeconds = new Histogram({
    name: 'fourierft_adapter_load_seconds',
    help: 'Seconds to read an adapter',
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.03, 0.1, 0.3, 1, 3, 10],
    registers: this.#registers,
  })
  readonly adapterEvictions = new Counter({
    name: 'fourierft_adapter_evictions_total',
    help: 'Adapters that were dropped for others',
    registers: this.#registers,
  })
  readonly residentAdapters = new Gauge({
    name: 'fourierft_resident_adapters',
    help: 'Adapters in memory',
    registers: this.#registers,
  })
  readonly residentBytes = new Gauge({
    name: 'fourierft_resident_adapter_bytes',
    help: 'Bytes of the adapters in memory',
    registers: this.#registers,
  })
  readonly groups = new Gauge({
    name: 'fourierft_groups',
    help: 'Graphs of the model that are open, each for adapters of one kind',
    registers: this.#registers,
  })
}
