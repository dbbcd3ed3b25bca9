// Authentication, as it was printed earlier. Changes:
// - The first two lines: the printed fragment supposes a `bridge`, which is a worker now.
// - `registerFunction('onAuth', onAuth)` for `registerFunction({ function_path: 'onAuth', handler: onAuth })`: the
//   published SDK takes the id as text and the handler beside it.
// - No types: this is no TypeScript.
import { registerWorker } from 'iii-sdk'
const bridge = registerWorker('ws://localhost:49134')

function onAuth(input) {
  console.log('Authenticated request', input)

  return {
    context: { name: 'John Doe' },
  }
}

bridge.registerFunction('onAuth', onAuth)
