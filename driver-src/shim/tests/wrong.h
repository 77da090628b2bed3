/*
 * wrong.h: every mistake that the shim has to see: a name, and the rule that it breaks.
 */
#ifndef WSKLAB_SHIM_TESTS_WRONG_H
#define WSKLAB_SHIM_TESTS_WRONG_H

#define WRONG_LIST(X)                                                                                                              \
    X(None, "")                                                                                                                    \
    X(WaitInDispatch, "wait-in-callout")                                                                                           \
    X(WaitRaised, "irql")                                                                                                          \
    X(WaitWithLock, "irql")                                                                                                        \
    X(WaitInCompletion, "wait-in-callout")                                                                                         \
    X(WaitUserModeOnStack, "pageable")                                                                                             \
    X(PassiveFunctionRaised, "irql")                                                                                               \
    X(RaiseDown, "irql-raise")                                                                                                     \
    X(LowerUp, "irql-lower")                                                                                                       \
    X(LowerWithLock, "irql-lower")                                                                                                 \
    X(ReturnRaised, "irql-not-restored")                                                                                           \
    X(ReleaseToOtherIrql, "irql-not-restored")                                                                                     \
    X(ReturnWithLock, "lock-leaked")                                                                                               \
    X(RecursiveLock, "lock-recursive")                                                                                             \
    X(UninitialisedLock, "uninitialised")                                                                                          \
    X(ReleaseFree, "lock-not-held")                                                                                                \
    X(ReleaseOtherPair, "lock-kind")                                                                                               \
    X(LockOrder, "lock-order")                                                                                                     \
    X(TwoOfOneKind, "lock-order")                                                                                                  \
    X(CallWskWithLock, "lock-held")                                                                                                \
    X(CompleteWithLock, "lock-held")                                                                                               \
    X(CompleteTwice, "irp-unknown")                                                                                                \
    X(CompleteOwnTwice, "double-completion")                                                                                       \
    X(CompletePending, "irp-status")                                                                                               \
    X(NotCompleted, "irp-lost")                                                                                                    \
    X(PendingNotMarked, "pending-not-marked")                                                                                      \
    X(MarkedNotPending, "pending-marked")                                                                                          \
    X(StatusDiffers, "status-differs")                                                                                             \
    X(PendingNotPassedOn, "pending-not-passed-on")                                                                                 \
    X(OwnIrpNotKept, "irp-not-kept")                                                                                               \
    X(FreedAndContinued, "irp-freed")                                                                                              \
    X(FreeInFlight, "irp-in-use")                                                                                                  \
    X(FreeMemoryInFlight, "irp-in-use")                                                                                            \
    X(ReuseInFlight, "irp-in-use")                                                                                                 \
    X(FreeOthersIrp, "irp-kind")                                                                                                   \
    X(NoStackLocation, "irp-stack")                                                                                                \
    X(MarkOutsideStack, "irp-stack")                                                                                               \
    X(CompleteWithCancelRoutine, "cancel-routine")                                                                                 \
    X(TouchAfterCompletion, "ASAN")                                                                                                \
    X(TouchFreedPool, "ASAN")                                                                                                      \
    X(OverrunPool, "ASAN")                                                                                                         \
    X(OverrunSystemBuffer, "ASAN")                                                                                                 \
    X(InformationTooLong, "information")                                                                                           \
    X(PointerInInformation, "pointer-in-information")                                                                              \
    X(PointerInOutput, "pointer-in-output")                                                                                        \
    X(StackPointerInOutput, "pointer-in-output")                                                                                   \
    X(CodePointerInOutput, "pointer-in-output")                                                                                    \
    X(UnwrittenOutput, "uninitialised-output")                                                                                     \
    X(PagedContext, "pageable")                                                                                                    \
    X(PagedEvent, "pageable")                                                                                                      \
    X(PagedLock, "pageable")                                                                                                       \
    X(PagedMdl, "pageable")                                                                                                        \
    X(PagedTouchedRaised, "pageable")                                                                                              \
    X(PagedAllocatedRaised, "irql")                                                                                                \
    X(ExecutablePool, "pool-executable")                                                                                           \
    X(WrongTag, "pool-tag")                                                                                                        \
    X(FreeTwice, "bad-free")                                                                                                       \
    X(FreeMdlLocked, "mdl-locked")                                                                                                 \
    X(FreeMdlTwice, "bad-pointer")                                                                                                 \
    X(FreeHeldLock, "freed-in-use")                                                                                                \
    X(FreeActiveTimer, "freed-in-use")                                                                                             \
    X(FreeQueuedWorkItem, "freed-in-use")                                                                                          \
    X(QueueWorkItemTwice, "work-item-queued-twice")                                                                                \
    X(UserHandle, "user-handle")                                                                                                   \
    X(CloseTwice, "bad-handle")                                                                                                    \
    X(DereferenceTooOften, "reference-count")                                                                                      \
    X(LastReferenceRaised, "deleted-above-passive")                                                                                \
    X(ListRemovedTwice, "list-corrupt")                                                                                            \
    X(NotAllFlagsEx, "completion-routine")                                                                                         \
    X(NullPointer, "access-violation")                                                                                             \
    X(LeaveCriticalRegion, "critical-region")                                                                                      \
    X(UnknownFormat, "format")                                                                                                     \
    X(UnmapUnbuiltMdl, "mdl")                                                                                                      \
    X(PoolOfNothing, "pool")                                                                                                       \
    X(RundownReleased, "rundown")                                                                                                  \
    X(SemaphoreTooFar, "semaphore")                                                                                                \
    X(ThreadInProcess, "thread-process")                                                                                           \
    X(WaitForMany, "wait-count")                                                                                                   \
    X(SetEventAndGoOn, "set-event-wait")                                                                                           \
    X(SetEventAndReturn, "set-event-wait")                                                                                         \
    X(OldPool2, "not-there")                                                                                                       \
    X(TerminateInCompletion, "callout")                                                                                            \
    X(LeakReference, "leak-object")                                                                                                \
    X(LeakPool, "leak-pool")                                                                                                       \
    X(LeakIrp, "leak-irp")                                                                                                         \
    X(LeakMdl, "leak-mdl")                                                                                                         \
    X(LeakWorkItem, "leak-work-item")                                                                                              \
    X(LeakThread, "leak-thread")                                                                                                   \
    X(LeakDevice, "leak-device")                                                                                                   \
    X(LeakLink, "leak-link")                                                                                                       \
    X(LeakHandle, "leak-handle")                                                                                                   \
    X(LeakTimer, "freed-in-use")                                                                                                   \
    X(LeakCompletionContext, "leak-completion-context")                                                                            \
    X(UnloadRunning, "unload-running")                                                                                             \
    X(Deadlock, "deadlock")

enum {
#define WRONG_ENUM(name, rule) Wrong##name,
    WRONG_LIST(WRONG_ENUM)
#undef WRONG_ENUM
        WrongEnd
};

#define WRONG_IOCTL(n) CTL_CODE(FILE_DEVICE_UNKNOWN, 0x800u + (n), METHOD_BUFFERED, FILE_ANY_ACCESS)

#endif
