// Hocuspocus as its documentation starts it, without persistence. The second argument is `flushDelay`: 0, the default,
// merges the updates of one turn of the event loop; false sends each on as it comes.
import { Server } from '@hocuspocus/server'

const [port, flushDelay] = process.argv.slice(2)
const configuration = { address: '127.0.0.1', port: Number(port), quiet: true }
if (flushDelay) configuration.flushDelay = JSON.parse(flushDelay)
await new Server(configuration).listen()
