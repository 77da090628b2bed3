/*
 * platform.h: the only includer of the kernel headers, and what the driver knows about where it runs.
 *
 * Annotations are those of the WDK's sal.h; mingw-w64 has none of them, so they expand to nothing there. They say
 * which IRQL a function may be called at and are read by people and by the WDK's analyser.
 */
#ifndef WSKLAB_PLATFORM_H
#define WSKLAB_PLATFORM_H

#include <ntddk.h>

#include "wsklab_ioctl.h"
#include "wsklab_wsk.h"

#ifndef _IRQL_requires_max_
#define _IRQL_requires_max_(level)
#define _IRQL_requires_(level)
#endif
#ifndef _Must_inspect_result_
#define _Must_inspect_result_
#endif
#ifndef _Requires_lock_held_
#define _Requires_lock_held_(lock)
#define _Requires_lock_not_held_(lock)
#endif
#ifndef _Use_decl_annotations_
#define _Use_decl_annotations_
#endif

/* Status numbers that mingw's ntstatus.h may lack. */
#ifndef STATUS_REVISION_MISMATCH
#define STATUS_REVISION_MISMATCH ((NTSTATUS)0xC0000059L)
#endif
#ifndef STATUS_PROCEDURE_NOT_FOUND
#define STATUS_PROCEDURE_NOT_FOUND ((NTSTATUS)0xC000007AL)
#endif

/* Priority flag of MmGetSystemAddressForMdlSafe since Windows 8: no executable mapping (HVCI). */
#ifndef MdlMappingNoExecute
#define MdlMappingNoExecute 0x40000000
#endif

#define WSKLAB_POOL_TAG 0x6C6B7357u /* "Wskl" */
#define NANOSECONDS_PER_MS 1000000ull

/* Documented in ntifs.h, which clashes with ntddk.h in mingw-w64. */
NTKERNELAPI NTSTATUS NTAPI ObOpenObjectByPointer(PVOID Object, ULONG HandleAttributes, PACCESS_STATE PassedAccessState,
                                                 ACCESS_MASK DesiredAccess, POBJECT_TYPE ObjectType,
                                                 KPROCESSOR_MODE AccessMode, PHANDLE Handle);
NTSYSAPI NTSTATUS NTAPI ZwSetSecurityObject(HANDLE Handle, SECURITY_INFORMATION SecurityInformation,
                                            PSECURITY_DESCRIPTOR SecurityDescriptor);
NTSYSAPI NTSTATUS NTAPI ZwWaitForSingleObject(HANDLE Handle, BOOLEAN Alertable, PLARGE_INTEGER Timeout);
NTSYSAPI NTSTATUS NTAPI RtlCreateAcl(PACL Acl, ULONG AclLength, ULONG AclRevision);
NTSYSAPI NTSTATUS NTAPI RtlAddAccessAllowedAce(PACL Acl, ULONG AceRevision, ACCESS_MASK AccessMask, PVOID Sid);
NTKERNELAPI VOID NTAPI SeCaptureSubjectContext(PSECURITY_SUBJECT_CONTEXT SubjectContext);
NTKERNELAPI VOID NTAPI SeReleaseSubjectContext(PSECURITY_SUBJECT_CONTEXT SubjectContext);
NTKERNELAPI BOOLEAN NTAPI SeTokenIsAdmin(PACCESS_TOKEN Token);

typedef NTSTATUS(NTAPI *PFN_SET_COMPLETION_ROUTINE_EX)(PDEVICE_OBJECT DeviceObject, PIRP Irp,
                                                       PIO_COMPLETION_ROUTINE CompletionRoutine, PVOID Context,
                                                       BOOLEAN InvokeOnSuccess, BOOLEAN InvokeOnError, BOOLEAN InvokeOnCancel);

/* The base of the loaded image that an address lies in, or NULL. No page of the DDI describes it, so it is looked up. */
typedef PVOID(NTAPI *PFN_PC_TO_FILE_HEADER)(PVOID Address, PVOID *Base);

/* Facts found once, before anything else runs. */
typedef struct PLATFORM {
    BOOLEAN Wine;     /* ntoskrnl is Wine's: several exports are stubs that raise when called */
    BOOLEAN IrqlReal; /* a raised IRQL can be read back */
    ULONG Major;
    ULONG Minor;
    ULONG Build;
    ULONG64 CounterFrequency;
    PFN_SET_COMPLETION_ROUTINE_EX SetCompletionRoutineEx; /* NULL where it is missing or a stub */
    PFN_PC_TO_FILE_HEADER PcToFileHeader; /* NULL where it is missing */
} PLATFORM;

_IRQL_requires_max_(PASSIVE_LEVEL) VOID PlatformInitialize(VOID);
_IRQL_requires_max_(DISPATCH_LEVEL) const PLATFORM *PlatformFacts(VOID);
/* Nanoseconds of the performance counter: the clock of all records. */
_IRQL_requires_max_(HIGH_LEVEL) ULONG64 PlatformNow(VOID);
/* The next number of the one counter that orders everything the driver sees; never 0. */
_IRQL_requires_max_(HIGH_LEVEL) ULONG64 PlatformNextSequence(VOID);
_IRQL_requires_max_(DISPATCH_LEVEL) ULONG64 PlatformThread(VOID);

/* The driver's log: the kernel debugger's output (DebugView, Wine's stderr). */
#define LogLine(...) DbgPrint("wsklab: " __VA_ARGS__)

#endif
