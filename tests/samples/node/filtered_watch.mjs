// One item is watched, under a condition. Printed is the registration, as JSON. Changes:
// - The first two lines, and the registrations as calls of the SDK: it is JSON that is printed.
// - The bodies of the handler and of the condition.
import { registerWorker } from 'iii-sdk'
const iii = registerWorker('ws://localhost:49134')

iii.registerFunction('auth::should-fire', async ({ event }) => event.data.online)

iii.registerFunction('presence::on-change', async ({ id, event }) => {
  console.log(event.type, id, event.data.name)
})

iii.registerTrigger({
  type: 'stream',
  function_id: 'presence::on-change',
  config: {
    stream_name: 'presence',
    group_id: 'room-1',
    item_id: 'user-123',
    condition_function_id: 'auth::should-fire',
  },
})
