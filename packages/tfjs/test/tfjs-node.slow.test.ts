/** The tests of the backend `tfjs-node`: the real N-API binding of TensorFlow, with the native operator if the kernel is compiled. */
import { testNode } from './test-node.js'

await testNode('node')
