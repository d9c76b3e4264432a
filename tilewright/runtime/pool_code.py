"""What the worker pool does natively: its code as textual LLVM IR (floor 7). `pool` compiles it and owns the threads.

How one launch works. The launcher fills the `launch` record, opens its *gate*, raises its *generation* and wakes sleepers. A worker that
sees a new generation joins through the gate, takes chunks of tasks from an atomic counter until none is left, and leaves. The launcher
takes chunks too, closes the gate, and waits only for the workers that joined: one that wakes too late finds the gate closed and costs
nothing, and no missed wake-up can hang a launch. A launch that finds another one under way runs all its tasks on its own thread.

Scratch memory lives in a table of arenas that only grow. Whoever needs one claims it with one compare-and-swap, so launchers that run at
the same time, nested launches included, keep warm memory; only with every arena in use is memory allocated for one launch.
"""

from __future__ import annotations

from string import Template

from tilewright.runtime.pool_platform import Parking, machine_code, parking_code

SCRATCH_ALIGNMENT_BYTES = 64
ARENA_COUNT = 256
# Launchers look for a free arena from slot 0 and worker i from slot 128 + i, so a worker meets its own (cache-warm) arena again.
FIRST_WORKER_ARENA = 128

# The gate: sign bit = open for joining, bit 30 = the launcher is parked on it, low bits = workers inside.
_POOL_TEXT = """
%Arena = type { i32, i64, ptr, ptr, [32 x i8] }  ; is_claimed, capacity in bytes, allocation, aligned base
%Launch = type { i32, i32, ptr, ptr, i64, i64, i64, i64 }  ; one cache line, so publishing costs one transfer

@launch = internal global %Launch zeroinitializer, align 64
@next_task = internal global i64 0, align 64
@sleeper_count = internal global i32 0, align 64
@launch_lock = internal global i32 0, align 64
@thread_limit = global i32 1, align 64
@spin_limit = global i32 0, align 4
@is_ready = global i32 0, align 4
@is_stopping = global i32 0, align 4
@start_workers = global ptr null, align 8
@arenas = internal global [$ARENA_COUNT x %Arena] zeroinitializer, align 64
@allocation_failure = internal constant [34 x i8] c"tilewright: kernel scratch memory\\00"

declare ptr @malloc(i64)
declare void @free(ptr)
declare void @perror(ptr)
declare void @abort()
declare ptr @memset(ptr, i32, i64)
declare i64 @llvm.smax.i64(i64, i64)
declare i64 @llvm.smin.i64(i64, i64)

; ---- scratch arenas -------------------------------------------------------------------------------------------

define internal void @reserve(ptr %arena, i64 %size_bytes) {
entry:
  %capacity_field = getelementptr %Arena, ptr %arena, i32 0, i32 1
  %allocation_field = getelementptr %Arena, ptr %arena, i32 0, i32 2
  %base_field = getelementptr %Arena, ptr %arena, i32 0, i32 3
  %capacity = load i64, ptr %capacity_field
  %is_enough = icmp sge i64 %capacity, %size_bytes
  br i1 %is_enough, label %done, label %grow
grow:
  %old = load ptr, ptr %allocation_field
  call void @free(ptr %old)
  %padded = add i64 %size_bytes, 4095
  %new_capacity = and i64 %padded, -4096
  %request = add i64 %new_capacity, $ALIGNMENT
  %new = call ptr @malloc(i64 %request)
  %is_null = icmp eq ptr %new, null
  br i1 %is_null, label %fail, label %align
fail:
  call void @perror(ptr @allocation_failure)
  call void @abort()
  unreachable
align:
  %address = ptrtoint ptr %new to i64
  %bumped = add i64 %address, $ALIGNMENT_MINUS_1
  %aligned = and i64 %bumped, -$ALIGNMENT
  %base = inttoptr i64 %aligned to ptr
  store ptr %new, ptr %allocation_field
  store ptr %base, ptr %base_field
  store i64 %new_capacity, ptr %capacity_field
  br label %done
done:
  ret void
}

; Gives an arena of at least size_bytes: a persistent one, or the caller's stack record %spare when none is wanted or none is free.
define internal ptr @claim_arena(i32 %first, i64 %size_bytes, ptr %spare) {
entry:
  store %Arena zeroinitializer, ptr %spare
  %is_wanted = icmp sgt i64 %size_bytes, 0
  br i1 %is_wanted, label %try, label %nothing
nothing:
  ret ptr %spare
try:
  %attempt = phi i32 [ 0, %entry ], [ %following, %taken ]
  %offset = add i32 %first, %attempt
  %slot = urem i32 %offset, $ARENA_COUNT
  %arena = getelementptr %Arena, ptr @arenas, i32 %slot
  %exchange = cmpxchg ptr %arena, i32 0, i32 1 acquire monotonic
  %is_ours = extractvalue { i32, i1 } %exchange, 1
  br i1 %is_ours, label %found, label %taken
taken:
  %following = add i32 %attempt, 1
  %has_more = icmp ult i32 %following, $ARENA_COUNT
  br i1 %has_more, label %try, label %found
found:
  %chosen = phi ptr [ %arena, %try ], [ %spare, %taken ]
  call void @reserve(ptr %chosen, i64 %size_bytes)
  ret ptr %chosen
}

define internal void @release_arena(ptr %arena, ptr %spare) {
entry:
  %is_spare = icmp eq ptr %arena, %spare
  br i1 %is_spare, label %temporary, label %persistent
temporary:
  %allocation_field = getelementptr %Arena, ptr %arena, i32 0, i32 2
  %allocation = load ptr, ptr %allocation_field
  call void @free(ptr %allocation)
  ret void
persistent:
  store atomic i32 0, ptr %arena release, align 4
  ret void
}

; ---- doing tasks ----------------------------------------------------------------------------------------------

define internal void @run_inline(ptr %task, ptr %context, i64 %task_count, i64 %scratch_bytes) {
entry:
  %spare = alloca %Arena, align 64
  %arena = call ptr @claim_arena(i32 0, i64 %scratch_bytes, ptr %spare)
  %base_field = getelementptr %Arena, ptr %arena, i32 0, i32 3
  %scratch = load ptr, ptr %base_field
  call void %task(i64 0, i64 %task_count, ptr %context, ptr %scratch)
  call void @release_arena(ptr %arena, ptr %spare)
  ret void
}

; Takes chunks of the current launch until none is left. The arena is claimed only after a first chunk was won.
define internal void @participate(i32 %first_arena) {
entry:
  %spare = alloca %Arena, align 64
  %task_count = load i64, ptr $TASK_COUNT
  %chunk = load i64, ptr $CHUNK
  %first = atomicrmw add ptr @next_task, i64 %chunk monotonic
  %has_work = icmp slt i64 %first, %task_count
  br i1 %has_work, label %prepare, label %done
prepare:
  %task = load ptr, ptr $TASK
  %context = load ptr, ptr $CONTEXT
  %scratch_bytes = load i64, ptr $SCRATCH_BYTES
  %arena = call ptr @claim_arena(i32 %first_arena, i64 %scratch_bytes, ptr %spare)
  %base_field = getelementptr %Arena, ptr %arena, i32 0, i32 3
  %scratch = load ptr, ptr %base_field
  br label %run
run:
  %begin = phi i64 [ %first, %prepare ], [ %next, %run ]
  %full_end = add i64 %begin, %chunk
  %end = call i64 @llvm.smin.i64(i64 %full_end, i64 %task_count)
  call void %task(i64 %begin, i64 %end, ptr %context, ptr %scratch)
  %next = atomicrmw add ptr @next_task, i64 %chunk monotonic
  %has_more = icmp slt i64 %next, %task_count
  br i1 %has_more, label %run, label %finish
finish:
  call void @release_arena(ptr %arena, ptr %spare)
  br label %done
done:
  ret void
}

; ---- the launcher ---------------------------------------------------------------------------------------------

define void @tw_parallel_for(ptr %task, ptr %context, i64 %task_count, i64 %wanted_chunk, i64 %scratch_bytes) {
entry:
  %chunk = call i64 @llvm.smax.i64(i64 %wanted_chunk, i64 1)
  %thread_limit = load atomic i32, ptr @thread_limit monotonic, align 4
  %is_alone = icmp sle i32 %thread_limit, 1
  %is_small = icmp sle i64 %task_count, %chunk
  %is_inline = or i1 %is_alone, %is_small
  br i1 %is_inline, label %inline, label %try_lock
inline:
  %is_empty = icmp sle i64 %task_count, 0
  br i1 %is_empty, label %done, label %inline_some
inline_some:
  %needs_scratch = icmp sgt i64 %scratch_bytes, 0
  br i1 %needs_scratch, label %inline_scratch, label %inline_plain
inline_plain:
  call void %task(i64 0, i64 %task_count, ptr %context, ptr null)
  ret void
inline_scratch:
  call void @run_inline(ptr %task, ptr %context, i64 %task_count, i64 %scratch_bytes)
  ret void
try_lock:
  %exchange = cmpxchg ptr @launch_lock, i32 0, i32 1 acquire monotonic
  %is_ours = extractvalue { i32, i1 } %exchange, 1
  br i1 %is_ours, label %locked, label %inline_some
locked:
  %is_ready = load atomic i32, ptr @is_ready acquire, align 4
  %is_first = icmp eq i32 %is_ready, 0
  br i1 %is_first, label %start, label %publish
start:
  store atomic i32 1, ptr @is_ready release, align 4
  %start_workers = load ptr, ptr @start_workers
  call void %start_workers()
  br label %publish
publish:
  store ptr %task, ptr $TASK
  store ptr %context, ptr $CONTEXT
  store i64 %task_count, ptr $TASK_COUNT
  store i64 %chunk, ptr $CHUNK
  store i64 %scratch_bytes, ptr $SCRATCH_BYTES
  %float_control = call i64 @read_float_control()
  store i64 %float_control, ptr $FLOAT_CONTROL
  store atomic i64 0, ptr @next_task monotonic, align 8
  store atomic i32 $OPEN, ptr $GATE release, align 4
  %generation = atomicrmw add ptr $GENERATION, i32 1 seq_cst
  %sleeper_count = load atomic i32, ptr @sleeper_count seq_cst, align 4
  %has_sleepers = icmp sgt i32 %sleeper_count, 0
  br i1 %has_sleepers, label %wake_some, label %work
wake_some:
  %rest = sub i64 %task_count, 1
  %other_chunks = udiv i64 %rest, %chunk
  %helper_limit = sub i32 %thread_limit, 1
  %helper_limit64 = zext i32 %helper_limit to i64
  %helpers64 = call i64 @llvm.smin.i64(i64 %other_chunks, i64 %helper_limit64)
  %helpers = trunc i64 %helpers64 to i32
  call void @wake(ptr $GENERATION, i32 %helpers)
  br label %work
work:
  call void @participate(i32 0)
  %gate = atomicrmw and ptr $GATE, i32 $CLOSED_MASK acq_rel
  br label %spin
spin:  ; the workers still inside are finishing their last chunk
  %spins = phi i32 [ 0, %work ], [ %more_spins, %spin_again ]
  %inside = load atomic i32, ptr $GATE acquire, align 4
  %is_over = icmp eq i32 %inside, 0
  br i1 %is_over, label %unlock, label %spin_more
spin_more:
  %spin_limit = load i32, ptr @spin_limit
  %may_spin = icmp slt i32 %spins, %spin_limit
  br i1 %may_spin, label %spin_again, label %park
spin_again:
  call void @pause()
  %more_spins = add i32 %spins, 1
  br label %spin
park:
  %before = atomicrmw or ptr $GATE, i32 $PARKED acq_rel
  %parked_gate = or i32 %before, $PARKED
  %is_left = icmp eq i32 %parked_gate, $PARKED
  br i1 %is_left, label %unlock, label %sleep
sleep:
  call void @wait_while_equal(ptr $GATE, i32 %parked_gate)
  br label %park
unlock:
  store atomic i32 0, ptr @launch_lock release, align 4
  br label %done
done:
  ret void
}

; ---- a worker -------------------------------------------------------------------------------------------------

define internal i1 @join_launch() {
entry:
  %thread_limit = load atomic i32, ptr @thread_limit monotonic, align 4
  %helper_limit = sub i32 %thread_limit, 1
  %first = load atomic i32, ptr $GATE monotonic, align 4
  br label %try
try:
  %gate = phi i32 [ %first, %entry ], [ %seen, %join ]
  %is_open = icmp slt i32 %gate, 0
  %inside = and i32 %gate, $INSIDE_MASK
  %has_room = icmp slt i32 %inside, %helper_limit
  %may_join = and i1 %is_open, %has_room
  br i1 %may_join, label %join, label %refuse
join:
  %gate_with_us = add i32 %gate, 1
  %exchange = cmpxchg ptr $GATE, i32 %gate, i32 %gate_with_us acquire monotonic
  %seen = extractvalue { i32, i1 } %exchange, 0
  %is_joined = extractvalue { i32, i1 } %exchange, 1
  br i1 %is_joined, label %accept, label %try
accept:
  ret i1 true
refuse:
  ret i1 false
}

define internal void @leave_launch() {
entry:
  %before = atomicrmw sub ptr $GATE, i32 1 acq_rel
  %is_last_of_parked = icmp eq i32 %before, $PARKED_WITH_ONE
  br i1 %is_last_of_parked, label %wake_launcher, label %done
wake_launcher:
  call void @wake(ptr $GATE, i32 1)
  br label %done
done:
  ret void
}

define void @worker_loop(i32 %first_arena) {
entry:
  %now = load atomic i32, ptr $GENERATION acquire, align 4
  %unseen = sub i32 %now, 1  ; a launch may be open already
  br label %look
look:
  %seen = phi i32 [ %unseen, %entry ], [ %seen, %sleep ], [ %generation, %join ], [ %generation, %work ]
  br label %spin
spin:
  %spins = phi i32 [ 0, %look ], [ %more_spins, %spin_again ]
  %is_stopping = load atomic i32, ptr @is_stopping acquire, align 4
  %must_stop = icmp ne i32 %is_stopping, 0
  br i1 %must_stop, label %stop, label %check
check:
  %generation = load atomic i32, ptr $GENERATION acquire, align 4
  %is_new = icmp ne i32 %generation, %seen
  br i1 %is_new, label %join, label %wait
wait:
  %spin_limit = load i32, ptr @spin_limit
  %may_spin = icmp slt i32 %spins, %spin_limit
  br i1 %may_spin, label %spin_again, label %sleep
spin_again:
  call void @pause()
  %more_spins = add i32 %spins, 1
  br label %spin
sleep:  ; counted before the wait re-reads the generation, raised before the launcher reads the count: one of the two sees the other
  %count_before = atomicrmw add ptr @sleeper_count, i32 1 seq_cst
  call void @wait_while_equal(ptr $GENERATION, i32 %seen)
  %count_after = atomicrmw sub ptr @sleeper_count, i32 1 seq_cst
  br label %look
join:
  %is_joined = call i1 @join_launch()
  br i1 %is_joined, label %work, label %look
work:
  %float_control = load i64, ptr $FLOAT_CONTROL
  call void @write_float_control(i64 %float_control)
  call void @participate(i32 %first_arena)
  call void @leave_launch()
  br label %look
stop:
  ret void
}

define void @stop_workers() {
  store atomic i32 1, ptr @is_stopping seq_cst, align 4
  %generation = atomicrmw add ptr $GENERATION, i32 1 seq_cst
  call void @wake(ptr $GENERATION, i32 2147483647)
  ret void
}

; Also for the child of a fork: no worker exists there, and whatever another thread held at that moment is free again.
; Arenas are forgotten, not freed: one of them may have been growing.
define void @initialize() {
  store %Launch zeroinitializer, ptr @launch
  store i32 0, ptr @sleeper_count
  store i32 0, ptr @launch_lock
  store i32 0, ptr @is_ready
  %start = call ptr @memset(ptr @arenas, i32 0, i64 ptrtoint (ptr getelementptr (%Arena, ptr null, i32 $ARENA_COUNT) to i64))
  call void @initialize_parking()
  ret void
}

; Skips the arenas in use.
define void @free_arenas() {
entry:
  br label %try
try:
  %slot = phi i32 [ 0, %entry ], [ %following, %next ]
  %arena = getelementptr %Arena, ptr @arenas, i32 %slot
  %exchange = cmpxchg ptr %arena, i32 0, i32 1 acquire monotonic
  %is_ours = extractvalue { i32, i1 } %exchange, 1
  br i1 %is_ours, label %empty, label %next
empty:
  %allocation_field = getelementptr %Arena, ptr %arena, i32 0, i32 2
  %allocation = load ptr, ptr %allocation_field
  call void @free(ptr %allocation)
  store %Arena { i32 1, i64 0, ptr null, ptr null, [32 x i8] zeroinitializer }, ptr %arena
  store atomic i32 0, ptr %arena release, align 4
  br label %next
next:
  %following = add i32 %slot, 1
  %has_more = icmp ult i32 %following, $ARENA_COUNT
  br i1 %has_more, label %try, label %done
done:
  ret void
}
"""

C_LIBRARY_SYMBOLS = ("malloc", "free", "memset", "perror", "abort")

_GATE_OPEN = 1 << 31
_GATE_PARKED = 1 << 30
_LAUNCH_FIELDS = ("GATE", "GENERATION", "TASK", "CONTEXT", "TASK_COUNT", "CHUNK", "SCRATCH_BYTES", "FLOAT_CONTROL")


def pool_code(machine: str, parking: Parking) -> str:
    """The IR module of a pool for one machine ("x86_64", "aarch64", any other name: no pause, no float control) and way to sleep."""
    values: dict[str, object] = {
        "ARENA_COUNT": ARENA_COUNT,
        "ALIGNMENT": SCRATCH_ALIGNMENT_BYTES,
        "ALIGNMENT_MINUS_1": SCRATCH_ALIGNMENT_BYTES - 1,
        "OPEN": _GATE_OPEN - (1 << 32),
        "CLOSED_MASK": _GATE_OPEN - 1,
        "PARKED": _GATE_PARKED,
        "PARKED_WITH_ONE": _GATE_PARKED + 1,
        "INSIDE_MASK": _GATE_PARKED - 1,
    }
    values |= {name: f"getelementptr (%Launch, ptr @launch, i32 0, i32 {index})" for index, name in enumerate(_LAUNCH_FIELDS)}
    return Template(_POOL_TEXT).substitute(values) + machine_code(machine) + parking_code(parking, machine)
