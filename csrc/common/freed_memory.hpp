// What becomes of memory that is freed.
#pragma once

namespace cliquesim {

// With `keep`, blocks of up to 32 MiB stay with the process when they are freed, for whoever asks
// next: handed back to the system, as they are by default, every page of the next one costs a fault
// and is zeroed. Without, what is free goes back, now and from then on. Concerns the whole process;
// false where the C library has no such setting.
bool keep_freed_memory(bool keep);

}  // namespace cliquesim
