/** The tests of the backend `tfjs-node-gpu`: the real N-API binding of TensorFlow, with the native operator if the kernel is compiled. */
import { testNode } from './test-node.js'

await testNode('node-gpu')
