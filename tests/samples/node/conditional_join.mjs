// A condition before a join function. Changes:
// - The first two lines, and `stream::auth` as in `join_with_context.mjs`: the printed fragment supposes both.
// - `registerFunction('onJoin', …)` for `registerFunction({ id: 'onJoin' }, …)`, and the condition likewise: the published
//   SDK takes the id as text.
import { registerWorker } from 'iii-sdk'
const iii = registerWorker('ws://localhost:49134')

iii.registerFunction('stream::auth', (input) => {
  const auth = input.headers?.['authorization']?.replace(/^Bearer\s+/i, '')
  const proto = input.headers?.['sec-websocket-protocol']
  const token = auth ?? (proto?.startsWith('Authorization,') ? proto.slice(13) : null)
  return token ? { context: { userId: 'user-from-token' } } : { context: null }
})

const conditionFn = iii.registerFunction(
  'conditions::requireContext',
  async (input) => input.context?.userId != null,
)

const fn = iii.registerFunction('onJoin', (input) => {
  console.log('User joined:', input.context?.userId, input.stream_name)
  return {}
})

iii.registerTrigger({
  type: 'stream:join',
  function_id: fn.id,
  config: { condition_function_id: conditionFn.id },
})
