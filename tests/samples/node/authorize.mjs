// A gate that refuses joins, and what is cleaned up when somebody leaves. Printed are the registrations, as JSON, and what
// the handlers are to return. Changes:
// - The first two lines, and the registrations as calls of the SDK: it is JSON that is printed.
// - `stream::auth` as in `join_with_context.mjs`: it supposes a context.
// - The bodies of the handlers, after the text.
import { registerWorker } from 'iii-sdk'
const iii = registerWorker('ws://localhost:49134')

iii.registerFunction('stream::auth', (input) => {
  const auth = input.headers?.['authorization']?.replace(/^Bearer\s+/i, '')
  const proto = input.headers?.['sec-websocket-protocol']
  const token = auth ?? (proto?.startsWith('Authorization,') ? proto.slice(13) : null)
  return token ? { context: { userId: 'user-from-token' } } : { context: null }
})

const subscriptions = new Map()

iii.registerFunction('presence::on-join', async ({ subscription_id, group_id, context }) => {
  if (group_id === 'private' && !context?.userId) return { unauthorized: true }
  subscriptions.set(subscription_id, group_id)
  return {}
})

iii.registerFunction('presence::on-leave', async ({ subscription_id }) => {
  console.log('left', subscriptions.get(subscription_id))
  subscriptions.delete(subscription_id)
})

iii.registerTrigger({ type: 'stream:join', function_id: 'presence::on-join', config: {} })
iii.registerTrigger({ type: 'stream:leave', function_id: 'presence::on-leave', config: {} })
