// Who joins is known by the token. Changes:
// - The first two lines: the printed fragments suppose a worker.
// - `registerFunction('stream::auth', …)` for `registerFunction({ id: 'stream::auth' }, …)`, and `onJoin` likewise: the
//   published SDK takes the id as text.
import { registerWorker } from 'iii-sdk'
const iii = registerWorker('ws://localhost:49134')

iii.registerFunction('stream::auth', (input) => {
  const auth = input.headers?.['authorization']?.replace(/^Bearer\s+/i, '')
  const proto = input.headers?.['sec-websocket-protocol']
  const token = auth ?? (proto?.startsWith('Authorization,') ? proto.slice(13) : null)
  return token ? { context: { userId: 'user-from-token' } } : { context: null }
})

const fn = iii.registerFunction('onJoin', (input) => {
  const { stream_name, group_id, id: itemId, context } = input
  if (context?.userId) {
    console.log(`User ${context.userId} joined ${stream_name}/${group_id}/${itemId}`)
  }
  return {}
})

iii.registerTrigger({
  type: 'stream:join',
  function_id: fn.id,
  config: {},
})
