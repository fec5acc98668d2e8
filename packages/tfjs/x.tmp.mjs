import { create, globals } from 'webgpu'
let g = create([])
console.log(await g.requestAdapter())
process.env.VK_ICD_FILENAMES='/usr/lib/chromium/vk_swiftshader_icd.json'
let h = create([])
const a=await h.requestAdapter()
console.log(a?.info.description)
g=null; globalThis.gc?.()
await new Promise(r=>setTimeout(r,500)); globalThis.gc?.()
console.log('done')
