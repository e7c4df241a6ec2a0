wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"title":"a call of about two hundred bytes","count":7,"tags":["alpha","beta","gamma"],"note":"' .. string.rep("x", 90) .. '"}'
