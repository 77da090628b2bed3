/*
 * mdl.c: memory descriptor lists. All memory is mapped here, so an MDL's system address is its address; what can go wrong
 * is checked: memory that may not be described so, pages that stay locked, an MDL freed twice.
 */
#include "internal.h"

static void RequireMdl(const char *function, const MDL *mdl) {
    if (!MemoryIs(MEMORY_MDL, mdl)) {
        ShimAbort("bad-pointer", "%s of %p, which is no MDL (any more)", function, (const void *)mdl);
    }
}

PMDL NTAPI IoAllocateMdl(PVOID VirtualAddress, ULONG Length, BOOLEAN SecondaryBuffer, BOOLEAN ChargeQuota, PIRP Irp) {
    ULONG offset = (ULONG)((ULONG_PTR)VirtualAddress & (PAGE_SIZE - 1));
    size_t pages = ((size_t)offset + Length + PAGE_SIZE - 1) / PAGE_SIZE;
    PMDL mdl;

    UNREFERENCED_PARAMETER(SecondaryBuffer);
    UNREFERENCED_PARAMETER(ChargeQuota);
    ShimRequireIrql("IoAllocateMdl", DISPATCH_LEVEL);
    if (Irp != NULL) {
        ShimAbort("mdl", "IoAllocateMdl into an IRP: not offered by the shim");
    }
    ShimYield("IoAllocateMdl");
    mdl = MemoryGet(MEMORY_MDL, sizeof(*mdl) + pages * sizeof(ULONG_PTR), 0, "IoAllocateMdl", CALLER());
    if (mdl == NULL) {
        return NULL;
    }
    *mdl = (MDL){.Size = (CSHORT)(sizeof(*mdl) + pages * sizeof(ULONG_PTR)),
                 .StartVa = (PVOID)((ULONG_PTR)VirtualAddress & ~(ULONG_PTR)(PAGE_SIZE - 1)),
                 .ByteCount = Length,
                 .ByteOffset = offset};
    mdl->MappedSystemVa = (PVOID)(ULONG_PTR)0xCDCDCDCDCDCDCDCDull; /* not mapped yet */
    return mdl;
}

VOID NTAPI IoFreeMdl(PMDL Mdl) {
    RequireMdl("IoFreeMdl", Mdl);
    ShimRequireIrql("IoFreeMdl", DISPATCH_LEVEL);
    if ((Mdl->MdlFlags & MDL_PAGES_LOCKED) && !(Mdl->MdlFlags & MDL_PARTIAL)) {
        ShimAbort("mdl-locked", "IoFreeMdl of an MDL whose pages are locked");
    }
    ShimYield("IoFreeMdl");
    MemoryPut(MEMORY_MDL, Mdl, 0, "IoFreeMdl");
}

VOID NTAPI MmBuildMdlForNonPagedPool(PMDL Mdl) {
    RequireMdl("MmBuildMdlForNonPagedPool", Mdl);
    ShimRequireIrql("MmBuildMdlForNonPagedPool", DISPATCH_LEVEL);
    if (Mdl->MdlFlags & (MDL_PAGES_LOCKED | MDL_SOURCE_IS_NONPAGED_POOL)) {
        ShimAbort("mdl", "MmBuildMdlForNonPagedPool of an MDL that describes memory already");
    }
    ShimRequireNonPaged("the memory of an MDL", MmGetMdlVirtualAddress(Mdl), Mdl->ByteCount);
    Mdl->MdlFlags |= MDL_SOURCE_IS_NONPAGED_POOL;
    Mdl->MappedSystemVa = MmGetMdlVirtualAddress(Mdl);
}

VOID NTAPI MmProbeAndLockPages(PMDL Mdl, KPROCESSOR_MODE AccessMode, LOCK_OPERATION Operation) {
    UNREFERENCED_PARAMETER(AccessMode);
    UNREFERENCED_PARAMETER(Operation);
    RequireMdl("MmProbeAndLockPages", Mdl);
    ShimRequireIrql("MmProbeAndLockPages", MemoryIsPaged(MmGetMdlVirtualAddress(Mdl), Mdl->ByteCount) ? APC_LEVEL : DISPATCH_LEVEL);
    if (Mdl->MdlFlags & (MDL_PAGES_LOCKED | MDL_SOURCE_IS_NONPAGED_POOL)) {
        ShimAbort("mdl", "MmProbeAndLockPages of an MDL that describes memory already");
    }
    ShimRequireMemory("the memory of an MDL", MmGetMdlVirtualAddress(Mdl), Mdl->ByteCount);
    Mdl->MdlFlags |= MDL_PAGES_LOCKED;
}

VOID NTAPI MmUnlockPages(PMDL Mdl) {
    RequireMdl("MmUnlockPages", Mdl);
    ShimRequireIrql("MmUnlockPages", DISPATCH_LEVEL);
    if (!(Mdl->MdlFlags & MDL_PAGES_LOCKED)) {
        ShimAbort("mdl", "MmUnlockPages of an MDL whose pages are not locked");
    }
    Mdl->MdlFlags &= (CSHORT) ~(MDL_PAGES_LOCKED | MDL_MAPPED_TO_SYSTEM_VA);
}

PVOID NTAPI MmGetSystemAddressForMdlSafe(PMDL Mdl, ULONG Priority) {
    UNREFERENCED_PARAMETER(Priority);
    RequireMdl("MmGetSystemAddressForMdlSafe", Mdl);
    ShimRequireIrql("MmGetSystemAddressForMdlSafe", DISPATCH_LEVEL);
    if (Mdl->MdlFlags & (MDL_MAPPED_TO_SYSTEM_VA | MDL_SOURCE_IS_NONPAGED_POOL)) {
        return Mdl->MappedSystemVa;
    }
    if (!(Mdl->MdlFlags & (MDL_PAGES_LOCKED | MDL_PARTIAL))) {
        ShimAbort("mdl", "MmGetSystemAddressForMdlSafe of an MDL that describes no memory yet");
    }
    if (InjectShouldFail("MmGetSystemAddressForMdlSafe")) {
        return NULL;
    }
    Mdl->MappedSystemVa = MmGetMdlVirtualAddress(Mdl);
    Mdl->MdlFlags |= MDL_MAPPED_TO_SYSTEM_VA;
    return Mdl->MappedSystemVa;
}

VOID NTAPI IoBuildPartialMdl(PMDL SourceMdl, PMDL TargetMdl, PVOID VirtualAddress, ULONG Length) {
    PCHAR begin = MmGetMdlVirtualAddress(SourceMdl);
    PCHAR at = VirtualAddress;

    RequireMdl("IoBuildPartialMdl", SourceMdl);
    RequireMdl("IoBuildPartialMdl", TargetMdl);
    if (Length == 0) {
        Length = (ULONG)(begin + SourceMdl->ByteCount - at);
    }
    if (at < begin || at + Length > begin + SourceMdl->ByteCount || TargetMdl->ByteCount < Length) {
        ShimAbort("mdl", "IoBuildPartialMdl beyond the source or the target");
    }
    TargetMdl->StartVa = (PVOID)((ULONG_PTR)at & ~(ULONG_PTR)(PAGE_SIZE - 1));
    TargetMdl->ByteOffset = (ULONG)((ULONG_PTR)at & (PAGE_SIZE - 1));
    TargetMdl->ByteCount = Length;
    TargetMdl->MdlFlags |= MDL_PARTIAL | (SourceMdl->MdlFlags & MDL_SOURCE_IS_NONPAGED_POOL);
    TargetMdl->MappedSystemVa = at;
}
