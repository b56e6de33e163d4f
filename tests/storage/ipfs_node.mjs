// A node of IPFS with the HTTP RPC, alone: `node ipfs_node.mjs REPOSITORY PORT` prints "ready PORT".
import { argv, stdout } from 'node:process'

// Its dependencies want a function that Node has had since version 22.
Promise.withResolvers ??= function () {
  let resolve, reject
  const promise = new Promise((_resolve, _reject) => { resolve = _resolve; reject = _reject })
  return { promise, resolve, reject }
}

const { create } = await import('ipfs-core')
const { HttpApi } = await import('ipfs-http-server')
const [repository, port] = argv.slice(2)
const node = await create({
  repo: repository,
  silent: true,
  offline: true,
  config: {
    Addresses: { Swarm: [], API: `/ip4/127.0.0.1/tcp/${port}`, Gateway: '', Delegates: [] },
    Bootstrap: [],
    Discovery: { MDNS: { Enabled: false }, webRTCStar: { Enabled: false } },
    Routing: { Type: 'none' }
  }
})
await new HttpApi(node).start()
stdout.write(`ready ${port}\n`)
