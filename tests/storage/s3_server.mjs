// Another S3 server, which checks signatures: `node s3_server.mjs FOLDER PORT`, with one bucket called "other".
import { mkdirSync } from 'node:fs'
import { argv } from 'node:process'
import S3rver from 's3rver'

const [directory, port] = argv.slice(2)
mkdirSync(directory, { recursive: true })
await new S3rver({
  port: Number(port),
  address: '127.0.0.1',
  directory,
  silent: true,
  configureBuckets: [{ name: 'other', configs: [] }]
}).run()
