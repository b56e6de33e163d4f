// Reads a CAR file with the reference reader: every block is hashed; prints its root and how many blocks there are.
import { createReadStream } from 'node:fs'
import { argv, stdout } from 'node:process'
import { CarBlockIterator } from '@ipld/car'
import { sha256 } from 'multiformats/hashes/sha2'
import { equals } from 'multiformats/bytes'

const car = await CarBlockIterator.fromIterable(createReadStream(argv[2]))
const roots = await car.getRoots()
let blocks = 0
for await (const { cid, bytes } of car) {
  if (!equals((await sha256.digest(bytes)).bytes, cid.multihash.bytes)) throw new Error(`${cid} is damaged`)
  blocks += 1
}
stdout.write(JSON.stringify({ roots: roots.map(String), blocks }) + '\n')
