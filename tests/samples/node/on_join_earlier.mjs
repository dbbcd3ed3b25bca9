// A function that hears who joins, as it was printed earlier. Changes:
// - The first two lines: the printed fragment supposes a `bridge`, which is a worker now.
// - `registerFunction('onJoin', onJoin)` for `registerFunction({ function_path: 'onJoin', handler: onJoin })`: the
//   published SDK takes the id as text and the handler beside it.
// - `type` and `function_id` for `trigger_type` and `function_path`: the published SDK sends no others. The trigger is
//   still called `streams:join`, and still has no `config`.
// - No types: this is no TypeScript.
import { registerWorker } from 'iii-sdk'
const bridge = registerWorker('ws://localhost:49134')

function onJoin(input) {
  console.log('Joined stream', input)
}

bridge.registerFunction('onJoin', onJoin)

bridge.registerTrigger({
  type: 'streams:join',
  function_id: 'onJoin',
})
