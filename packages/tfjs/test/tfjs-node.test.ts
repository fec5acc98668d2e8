/** The row `tfjs-node`: the real N-API binding on TensorFlow, with the native operator where the kernel is compiled. */
import { testNode } from './test-node.js'

await testNode('node', { quick: true })
