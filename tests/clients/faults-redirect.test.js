// Servers and networks fail while stock clients follow their documents by the documented lines.

import { faults } from './lib/faults.js'

const { cutOff } = faults({ isRelay: false })

cutOff()
