// Implementation of stream_width.hpp.
#include "sync/stream_width.hpp"

#include <algorithm>

namespace psource {

stream_width::stream_width(width_settings settings, std::size_t most)
    : workers_(settings.workers), most_(most), least_(std::min(settings.least, most)), now_(least_) {}

std::chrono::milliseconds stream_width::look(std::chrono::steady_clock::time_point time, std::size_t fed, bool all_run,
                                             std::size_t done) {
  if (looks_ == 0) {
    first_ = time;
    done_at_first_ = done;
  }
  fed_ += fed;
  all_run_ = all_run_ && all_run;
  if (++looks_ < looks_of_a_judgement) return between;
  judge(time - first_, done - done_at_first_);
  forget();
  return between + pause_;
}

void stream_width::forget() {
  looks_ = fed_ = 0;
  all_run_ = true;
}

void stream_width::judge(std::chrono::steady_clock::duration elapsed, std::size_t ended) {
  const std::size_t before = now_;
  // On the average: less than one for every second worker; more than two for each.
  const bool hungry = 2 * fed_ < workers_ * looks_;
  const bool sated = fed_ > 2 * workers_ * looks_;
  // With so many at once streams last for less than the time between two looks.
  const auto brief = [&](std::size_t at_once) { return between * ended > elapsed * at_once; };
  // Few have something, so that the others may be stuck, on a shard that is not available for one. Too little to tell: one more
  // at a time.
  const bool idle = 4 * fed_ < now_ * looks_;
  pause_ = std::min(longest_pause, std::max(first_pause, 2 * pause_));
  if ((hungry || brief(now_)) && all_run_)
    now_ = std::min(most_, 2 * now_);
  else if (sated && !brief(now_ / 2))
    now_ = std::max(least_, now_ / 2);
  else if (idle && all_run_) {
    now_ = std::min(most_, now_ + 1);
    return;
  }
  if (now_ != before) pause_ = std::chrono::milliseconds(0);
}

}  // namespace psource
