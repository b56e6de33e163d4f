// The CIDs that the reference importer gives, as `ipfs add --recursive --cid-version=1 --raw-leaves`:
//
//   node reference_cid.mjs FOLDER     every file of the folder and every folder, one JSON line each
//   node reference_cid.mjs --vectors  files of sizes at which the shape of the DAG changes
import { createReadStream, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { argv, stdout } from 'node:process'
import { BlackHoleBlockstore } from 'blockstore-core'
import { importer } from 'ipfs-unixfs-importer'
import { fixedSize } from 'ipfs-unixfs-importer/chunker'
import { balanced } from 'ipfs-unixfs-importer/layout'

const CHUNK = 256 << 10
const AS_KUBO = {
  cidVersion: 1,
  rawLeaves: true,
  reduceSingleLeafToSelf: true,
  chunker: fixedSize({ chunkSize: CHUNK }),
  layout: balanced({ maxChildrenPerNode: 174 })
}

async function tell (source, options) {
  for await (const { path, cid, size } of importer(source, new BlackHoleBlockstore(), { ...AS_KUBO, ...options })) {
    stdout.write(JSON.stringify({ path: path ?? '', cid: cid.toString(), total_bytes: Number(size) }) + '\n')
  }
}

function * filesBelow (folder, path = '') {
  for (const entry of readdirSync(join(folder, path), { withFileTypes: true })) {
    const below = path === '' ? entry.name : `${path}/${entry.name}`
    if (entry.isDirectory()) yield * filesBelow(folder, below)
    else yield { path: below, content: createReadStream(join(folder, below)) }
  }
}

// Byte number i is the low byte of (i >> 18) ^ i, so that no two chunks are equal.
function * pattern (bytes) {
  for (let start = 0; start < bytes; start += CHUNK) {
    const chunk = new Uint8Array(Math.min(CHUNK, bytes - start))
    for (let i = 0; i < chunk.length; i++) chunk[i] = ((start + i) >>> 18) ^ (start + i)
    yield chunk
  }
}

if (argv[2] === '--vectors') {
  for (const bytes of [0, 1, CHUNK, CHUNK + 1, 174 * CHUNK, 174 * CHUNK + 1, 176 * CHUNK + 9]) {
    await tell([{ path: String(bytes), content: pattern(bytes) }], {})
  }
} else {
  await tell(filesBelow(argv[2]), { wrapWithDirectory: true })
}
