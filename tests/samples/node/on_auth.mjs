// Authentication. Changes:
// - The first two lines: the printed fragment supposes a worker.
// - `registerFunction('onAuth', …)` for `registerFunction({ id: 'onAuth' }, …)`: the published SDK takes the id as text.
import { registerWorker } from 'iii-sdk'
const iii = registerWorker('ws://localhost:49134')

iii.registerFunction('onAuth', (input) => ({
  context: { name: 'John Doe' },
}))
