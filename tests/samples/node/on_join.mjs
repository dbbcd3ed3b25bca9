// A function that hears who joins. Changes:
// - The first two lines: the printed fragment supposes a worker.
// - `registerFunction('onJoin', …)` for `registerFunction({ id: 'onJoin' }, …)`: the published SDK takes the id as text.
import { registerWorker } from 'iii-sdk'
const iii = registerWorker('ws://localhost:49134')

const fn = iii.registerFunction('onJoin', (input) => {
  console.log('Joined stream', input)
  return {}
})

iii.registerTrigger({
  type: 'stream:join',
  function_id: fn.id,
  config: {},
})
