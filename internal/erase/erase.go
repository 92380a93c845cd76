// Package erase runs the code that has key bytes in its hands, so that a Go
// runtime which can erases what that code leaves behind.
//
// Go's experiment runtimesecret can, on linux/amd64 and linux/arm64: registers
// and stack are cleared when [Do] returns, and what was allocated in it as soon as
// the garbage collector finds it unreachable. That reaches the pads inside
// crypto/hmac and the key schedules inside crypto/aes, which nobody else can wipe.
// Build with GOEXPERIMENT=runtimesecret to have it. Without it Do only calls.
package erase
