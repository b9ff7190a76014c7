// One Hocuspocus of several, which its Redis extension joins, as its documentation starts them, without persistence.
import { Redis } from '@hocuspocus/extension-redis'
import { Server } from '@hocuspocus/server'

const [port, redis] = process.argv.slice(2).map(Number)
const extensions = [new Redis({ host: '127.0.0.1', port: redis })]
await new Server({ address: '127.0.0.1', port, quiet: true, extensions }).listen()
